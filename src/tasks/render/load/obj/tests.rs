use std::path::Path;

use proptest::prelude::*;

use super::super::super::scene::NO_TEXTURE;
use super::super::image::tests::png;
use super::*;

const SQUARE: &str = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n";

fn alone(obj: &str) -> Result<Loaded, String> {
    parse(obj.as_bytes(), &Folder::none())
}

fn refusal(obj: &str) -> String {
    alone(obj).unwrap_err()
}

/// An OBJ with files beside it.
fn with(obj: &str, files: &[(&str, &[u8])]) -> Result<Loaded, String> {
    let temp = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(temp.path().join(name), bytes).unwrap());
    let loaded = parse(obj.as_bytes(), &Folder::of(&temp.path().join("scene.obj")).unwrap())?;
    loaded.scene.check()?;
    Ok(loaded)
}

fn with_mtl(mtl: &str) -> Result<Loaded, String> {
    with(
        &format!("mtllib a b.mtl\n{SQUARE}usemtl m\nf 1 2 3\n"),
        &[("a b.mtl", mtl.as_bytes()), ("t.png", &png(1, 1, [9; 3]))],
    )
}

fn materials(loaded: &Loaded) -> &[Material] {
    match &loaded.scene.surfaces {
        Surfaces::Physical(materials) => materials,
        Surfaces::Phong(_) => panic!("Phong"),
    }
}

#[test]
fn polygons_become_triangles_of_shared_vertices() {
    let loaded = alone(&format!("o name\n{SQUARE}v 0.5 2 0\nf 1 2 3 5 4\nf -5 -4 -3\n")).unwrap();
    assert_eq!(loaded.scene.positions.len(), 5);
    let triangles: Vec<_> = loaded.scene.triangles.iter().map(|triangle| triangle.vertices).collect();
    assert_eq!(triangles, [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 1, 2]]);
    assert_eq!((&loaded.scene.normals[..], &loaded.scene.uvs[..]), (&[][..], &[][..]));
    assert_eq!(materials(&loaded), [Material::default()]);
    assert!(loaded.cameras.is_empty());
    assert_eq!(loaded.warnings, ["faces without a material, or whose material is in no library, are white"]);
}

#[test]
fn normals_are_unit_and_texture_coordinates_point_down() {
    let obj = format!("{SQUARE}vt 0.25 0\nvt 1\nvn 0 0 9\nf 1/1/1 2/2/1 3/1/1\nf 1 3 4\nf 1//1 3//1 4//1\n");
    let scene = alone(&obj).unwrap().scene;
    scene.check().unwrap();
    assert_eq!(scene.uvs[..2], [[0.25, 1.0], [1.0, 1.0]]);
    assert_eq!(scene.normals[0], [0.0, 0.0, 1.0]);
    let flat = scene.triangles[1].vertices[1] as usize;
    assert_eq!((scene.normals[flat], scene.normals.len()), ([0.0; 3], scene.positions.len()));
}

#[test]
fn a_line_may_go_on_and_comments_may_be_latin_1() {
    let obj = [b"# \xe9t\xe9\n".as_slice(), SQUARE.as_bytes(), b"f 1 2 \\\n 3 \\\n4 # end\n"].concat();
    assert_eq!(parse(&obj, &Folder::none()).unwrap().scene.triangles.len(), 2);
}

#[test]
fn an_error_names_the_line_and_the_word() {
    assert_eq!(refusal("v 0 0\n"), "line 1: v needs 3 numbers, and has 2");
    assert_eq!(refusal("\nv 0 x 0\n"), "line 2: \"x\" is not a number");
    assert_eq!(refusal("v 0 nan 0\n"), "line 1: \"nan\" is not a number");
    assert_eq!(refusal("vn 1e99 0 0\n"), "line 1: \"1e99\" is not a number");
    let face = |face: &str| refusal(&format!("{SQUARE}vt 0 0\nvn 0 0 1\nf {face}\n"));
    assert_eq!(face("1 2 5"), "line 7: \"5\" is not one of the 4 vertices (v) before it");
    assert_eq!(face("0 1 2"), "line 7: \"0\" is not one of the 4 vertices (v) before it");
    assert_eq!(face("-5 1 2"), "line 7: \"-5\" is not one of the 4 vertices (v) before it");
    assert_eq!(face("1/2 2 3"), "line 7: \"2\" is not one of the 1 texture coordinates (vt) before it");
    assert!(face("1/9223372036854775807/1 2 3").contains("is not one of the 1 texture coordinates"));
    assert!(face("1//-9223372036854775808 2 3").contains("is not one of the 1 normals"));
    assert!(face("1/1/1/1 2 3").contains("\"1/1/1/1\" is not a corner of a face"));
    assert!(face("/1/1 2 3").contains("is not a corner of a face"));
    assert!(face("99999999999999999999 2 3").contains("is not a corner of a face"));
    assert_eq!(face("1 2"), "line 7: a face has at least 3 corners, not 2");
    assert_eq!(refusal("usemtl \n"), "line 1: usemtl without a name");
}

#[test]
fn what_is_not_supported_is_said_once() {
    let obj = format!("{SQUARE}l 1 2\np 1\nl 2 3\ns 1\nvp 1 2\nv 0 0 0 1 0 0\nf 1 2 3\n");
    let warnings = alone(&obj).unwrap().warnings;
    let expected = [
        "lines and points are not shown",
        "lines that begin with \"vp\" are ignored",
        "colors of vertices are ignored",
        "smoothing groups are ignored: without normals, faces are flat",
        "faces without a material, or whose material is in no library, are white",
    ];
    assert_eq!(warnings, expected);
    let many: String = (0..500).map(|i| format!("word{i} 1\n")).collect();
    let warnings = alone(&many).unwrap().warnings;
    assert_eq!((warnings.len(), warnings[100].as_str()), (101, "more is not supported, which is not listed"));
}

#[test]
fn a_material_becomes_metallic_roughness() {
    let loaded =
        with_mtl("newmtl m\nKa 1 1 1\nKd 0.5 2 0.25\nKe 3 4 5\nKs 0.02\nNs 30\nmap_Kd t.png\nillum 2\nd 1\n").unwrap();
    let [material] = materials(&loaded) else { panic!("{:?}", loaded.scene.surfaces) };
    assert_eq!((material.base_color, material.emission), ([0.5, 1.0, 0.25], [3.0, 4.0, 5.0]));
    assert_eq!((material.specular, material.roughness), (0.5, 0.5));
    assert_eq!((material.base_color_texture, material.double_sided, material.metallic), (0, 1, 0.0));
    assert_eq!(loaded.scene.textures[0].texels, [[9, 9, 9, 255]]);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let loaded = with_mtl("newmtl m\nKs 1 1 1\nPr 0.25\nPm 1").unwrap();
    let [material] = materials(&loaded) else { panic!("{:?}", loaded.scene.surfaces) };
    assert_eq!((material.specular, material.roughness, material.metallic), (1.0, 0.25, 1.0));
    assert_eq!((material.base_color, material.base_color_texture), ([1.0; 3], NO_TEXTURE));
}

#[test]
fn a_material_library_is_checked_before_it_is_read() {
    assert_eq!(with_mtl("newmtl m\nKd 0.5 1").unwrap_err(), "\"a b.mtl\", line 2: Kd needs 3 numbers, and has 2");
    assert_eq!(with_mtl("newmtl m\nNs").unwrap_err(), "\"a b.mtl\", line 2: \"\" is not a number");
    assert_eq!(with_mtl("newmtl").unwrap_err(), "\"a b.mtl\", line 1: newmtl without a name");
    assert_eq!(with_mtl("newmtl m\nKe 1 inf 1").unwrap_err(), "\"a b.mtl\", line 2: \"inf\" is not a number");
    let mtl = "newmtl m\nKd spectral a.rfl\nd 0.5\nTr 0.5\nillum 7\nmap_Bump b.png\nmap_Kd -s 1 1 1 -clamp on t.png";
    let loaded = with_mtl(mtl).unwrap();
    let expected = [
        "Kd as a spectrum or in XYZ is ignored",
        "transparency (d, Tr) is ignored: everything is opaque",
        "reflection and refraction models (illum above 2) are ignored",
        "\"map_Bump\" in a material library is ignored",
        "options of textures other than -clamp are ignored",
    ];
    assert_eq!(loaded.warnings, expected);
    assert_eq!(loaded.scene.textures[0].wrap, [Wrap::Clamp; 2]);
}

#[test]
fn a_missing_library_is_a_warning_and_a_missing_texture_an_error() {
    let obj = format!("mtllib none.mtl\nmtllib none.mtl\n{SQUARE}usemtl m\nf 1 2 3\n");
    let loaded = with(&obj, &[]).unwrap();
    assert_eq!((loaded.warnings.len(), materials(&loaded)), (2, &[Material::default()][..]));
    assert!(loaded.warnings[0].contains("\"none.mtl\", which cannot be read"), "{:?}", loaded.warnings);
    let reason = with_mtl("newmtl m\nmap_Kd none.png").unwrap_err();
    assert!(reason.contains("refers to the file \"none.png\", which cannot be read"), "{reason}");
    assert!(with_mtl("newmtl m\nmap_Kd a b.mtl").unwrap_err().contains("its texture \"a b.mtl\": it is neither a PNG"));
}

#[test]
fn only_materials_that_are_used_are_read_and_the_first_of_a_name_counts() {
    let mtl = "Kd x\nnewmtl other\nmap_Kd none.png\nNs y\nnewmtl m\nKd 1 0 0\nnewmtl m\nKd 0 1 0\n";
    assert_eq!(materials(&with_mtl(mtl).unwrap())[0].base_color, [1.0, 0.0, 0.0]);
    let many = format!("newmtl m\n{}", "newmtl a\nd 0\n".repeat(1000));
    assert!(with_mtl(&many).unwrap().warnings.is_empty());
}

#[test]
fn libraries_and_textures_outside_the_folder_are_refused() {
    for name in ["../a.mtl", "/etc/passwd", "..\\a.mtl", "file:a", "a/../../b"] {
        let reason = with(&format!("mtllib {name}\n{SQUARE}f 1 2 3\n"), &[]).unwrap_err();
        assert!(reason.contains("only files in its own folder and below are read"), "{name}: {reason}");
        let reason = with_mtl(&format!("newmtl m\nmap_Kd {name}")).unwrap_err();
        assert!(reason.contains("only files in its own folder and below are read"), "{name}: {reason}");
    }
}

#[test]
fn the_name_of_a_material_may_hold_a_number_sign() {
    let mtl = "#c\nnewmtl Material #1\nKd 1 0 0 # red\nnewmtl Material #2\nKd 0 1 0\n";
    let obj = format!("#c\nmtllib m\n{SQUARE}usemtl Material #2\nf 1 2 3 # one\nusemtl Material #1\nf 1 2 3\n");
    let loaded = with(&obj, &[("m", mtl.as_bytes())]).unwrap();
    let colors: Vec<_> = materials(&loaded).iter().map(|material| material.base_color).collect();
    assert_eq!((colors, loaded.warnings), (vec![[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], Vec::<String>::new()));
}

#[test]
fn a_texture_is_read_once() {
    let mtl = "newmtl a\nmap_Kd t.png\nnewmtl b\nmap_Kd ./t.png\n";
    let obj = format!("mtllib m\n{SQUARE}usemtl a\nf 1 2 3\nusemtl b\nf 1 3 4\nusemtl a\nf 1 2 4\n");
    let loaded = with(&obj, &[("m", mtl.as_bytes()), ("t.png", &png(2, 2, [1; 3]))]).unwrap();
    assert_eq!((loaded.scene.textures.len(), materials(&loaded).len()), (1, 2));
    let used: Vec<u32> = loaded.scene.triangles.iter().map(|triangle| triangle.material).collect();
    assert_eq!(used, [0, 1, 0]);
}

#[test]
fn the_names_of_objects_cost_nothing() {
    let name = "n".repeat(100_000);
    let faces = "usemtl a\nf 1 2 3\nusemtl b\nf 1 2 3\n".repeat(10_000);
    let loaded = with(&format!("mtllib m\no {name}\n{SQUARE}{faces}"), &[("m", b"newmtl a\nnewmtl b\n")]).unwrap();
    assert_eq!(loaded.scene.triangles.len(), 20_000);
}

fn mutated(text: &str, changes: &[(prop::sample::Index, String)]) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (place, change) in changes {
        let line = place.index(lines.len());
        let mut words: Vec<&str> = lines[line].split(' ').collect();
        let word = place.index(words.len());
        words[word] = change;
        lines[line] = words.join(" ");
    }
    lines.join("\n")
}

proptest! {
    #[test]
    fn a_changed_obj_is_a_scene_that_is_right_or_an_error(
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(),
             "[0-9]{1,20}|-?[0-9]/[0-9]{0,2}/-?[0-9]?|f|v|vn|vt|usemtl|o|g|nan|1e38|\\\\|\\PC{0,4}"),
            1..5,
        ),
    ) {
        let faces = "usemtl a\nf 1 2 3\ng b\nf 1/1/1 3/1/1 4/1/1\nusemtl b\nf -1//1 -2//1 -3//1";
        let obj = format!("o a\n{SQUARE}vt 0 0\nvn 0 0 1\n{faces}");
        if let Ok(Loaded { scene, .. }) = alone(&mutated(&obj, &changes)) {
            prop_assert!(scene.triangles.is_empty() || scene.check().is_ok(), "{:?}", scene.check());
        }
    }

    #[test]
    fn any_bytes_are_a_scene_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes, &Folder::none());
    }

    #[test]
    fn a_changed_library_is_a_scene_that_is_right_or_an_error(
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), "[0-9.-]{1,5}|Kd|Ks|Ns|map_Kd|newmtl|illum|\\PC{0,4}"), 1..5),
    ) {
        let mtl = "newmtl m\nKd 1 0.5 0\nKs 1 1 1\nNs 5\nKe 1 2 3\nillum 2\nd 0.5\nnewmtl n\nKd 1 1 1";
        let mtl = mutated(mtl, &changes);
        let mut warnings = Warnings::default();
        let mut wanted = ["m", "n", "Kd", "1"].map(str::to_owned).into();
        if let Ok(lines) = mtl::prepare("m", &mtl, &mut wanted, &mut warnings) {
            let (materials, _) = tobj::load_mtl_buf(&mut lines.as_bytes()).unwrap();
            for material in materials {
                let Material { base_color, roughness, specular, emission, .. } = mtl::material(&material);
                let mut fractions = base_color.into_iter().chain([roughness, specular]);
                prop_assert!(fractions.all(|x| (0.0..=1.0).contains(&x)));
                prop_assert!(emission.iter().all(|x| *x >= 0.0));
            }
        }
    }
}

#[test]
fn the_path_of_a_scene_may_be_a_bare_name() {
    Folder::of(Path::new("scene.obj")).unwrap();
}
