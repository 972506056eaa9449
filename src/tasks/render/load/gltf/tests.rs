use super::super::super::scene::{Lens, Light, Material, Wrap};
use super::super::image::tests::png;
use super::*;

/// A triangle in the plane z = 0, with everything that a vertex can have.
pub(super) const TRIANGLE: &str = r#"{"asset":{"version":"2.0"},"scene":0,"scenes":[{"nodes":[0]}],"nodes":[{"mesh":0}],
"meshes":[{"primitives":[{"attributes":{"POSITION":0,"NORMAL":2,"TEXCOORD_0":3},"indices":1,"material":0}]}],
"materials":[{}],"accessors":[{"bufferView":0,"componentType":5126,"type":"VEC3","count":3},
{"bufferView":1,"componentType":5123,"type":"SCALAR","count":3},
{"bufferView":2,"componentType":5126,"type":"VEC3","count":3},
{"bufferView":3,"componentType":5126,"type":"VEC2","count":3}],
"bufferViews":[{"buffer":0,"byteLength":36},{"buffer":0,"byteOffset":36,"byteLength":6},
{"buffer":0,"byteOffset":44,"byteLength":36},{"buffer":0,"byteOffset":80,"byteLength":24}],
"buffers":[{"byteLength":104}]}"#;

pub(super) fn vertices() -> Vec<u8> {
    let floats = |floats: &[f32]| floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let positions = floats(&[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let normals = floats(&[0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    [positions, vec![0, 0, 1, 0, 2, 0, 0, 0], normals, floats(&[0.0, 0.0, 1.0, 0.0, 0.25, 1.0])].concat()
}

pub(super) fn glb(json: &str, chunk: &[u8]) -> Vec<u8> {
    let mut json = json.as_bytes().to_vec();
    json.resize(json.len().next_multiple_of(4), b' ');
    let part = |kind: &[u8], bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], kind, bytes].concat();
    let body = [part(b"JSON", &json), part(b"BIN\0", chunk)].concat();
    [b"glTF\x02\0\0\0".as_slice(), &(body.len() as u32 + 12).to_le_bytes(), &body].concat()
}

pub(super) fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(TRIANGLE.to_owned(), |json, (from, to)| {
        assert!(json.contains(from), "{from}");
        json.replacen(from, to, 1)
    })
}

pub(super) fn load(json: &str, chunk: &[u8]) -> Result<Loaded, String> {
    let loaded = binary(&glb(json, chunk), &Folder::none())?;
    loaded.scene.check()?;
    Ok(loaded)
}

fn read(changes: &[(&str, &str)]) -> Loaded {
    load(&changed(changes), &vertices()).unwrap()
}

pub(super) fn refusal(changes: &[(&str, &str)]) -> String {
    load(&changed(changes), &vertices()).unwrap_err()
}

/// Says so of a change whether the message holds these words.
pub(super) fn refuses(from: &str, to: &str, words: &str) {
    let reason = refusal(&[(from, to)]);
    assert!(reason.contains(words), "{to}: {reason}");
}

fn material(loaded: &Loaded) -> &Material {
    match &loaded.scene.surfaces {
        Surfaces::Physical(materials) => &materials[0],
        Surfaces::Phong(_) => panic!("Phong"),
    }
}

fn corners(loaded: &Loaded) -> Vec<[u32; 3]> {
    loaded.scene.triangles.iter().map(|triangle| triangle.vertices).collect()
}

fn close(a: [f32; 3], b: [f32; 3]) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6)
}

#[test]
fn a_triangle_comes_with_everything_its_vertices_have() {
    let loaded = read(&[]);
    let scene = &loaded.scene;
    assert_eq!(scene.positions, [[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
    assert_eq!(scene.normals, [[0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0; 3]]);
    assert_eq!(scene.uvs, [[0.0, 0.0], [1.0, 0.0], [0.25, 1.0]]);
    assert_eq!(corners(&loaded), [[0, 1, 2]]);
    let default = Material { metallic: 1.0, specular: 1.0, double_sided: 0, ..Material::default() };
    assert_eq!((material(&loaded), &loaded.warnings), (&default, &Vec::new()));
    assert!(loaded.cameras.is_empty());
    let plain = read(&[(r#","NORMAL":2,"TEXCOORD_0":3"#, ""), (r#","indices":1,"material":0"#, "")]);
    assert_eq!((plain.scene.normals.len(), plain.scene.uvs.len(), corners(&plain)), (0, 0, vec![[0, 1, 2]]));
}

#[test]
fn a_primitive_without_normals_beside_one_with_them_is_flat() {
    let second = r#"},{"attributes":{"POSITION":0}},{"attributes":{"POSITION":0,"NORMAL":2}}]}]"#;
    let loaded = read(&[(r#","NORMAL":2,"TEXCOORD_0":3"#, ""), ("}]}]", second)]);
    assert_eq!(loaded.scene.normals[..6], [[0.0; 3]; 6]);
    assert_eq!(loaded.scene.normals[6..8], [[0.0, 0.0, 1.0]; 2]);
}

#[test]
fn strips_and_fans_become_triangles() {
    let four =
        [("\"count\":3}", "\"count\":4}"), (r#"5123,"type":"SCALAR","count":3"#, r#"5121,"type":"SCALAR","count":5"#)];
    let with = |mode: &str| {
        let mode = format!("\"indices\":1,\"mode\":{mode}");
        let mut chunk = vertices();
        chunk[36..41].copy_from_slice(&[0, 1, 2, 0, 1]);
        load(&changed(&[four[1], ("\"indices\":1", &mode)]), &chunk)
    };
    assert_eq!(corners(&with("5").unwrap()), [[0, 1, 2], [1, 0, 2], [2, 0, 1]]);
    assert_eq!(corners(&with("6").unwrap()), [[1, 2, 0]]);
    let reason = with("1").unwrap_err();
    assert!(reason.contains("no geometry"), "{reason}");
    refuses("\"indices\":1", "\"indices\":1,\"mode\":9", "its mode is not one of glTF's");
}

#[test]
fn nodes_move_turn_and_scale() {
    let half = 0.5_f32.sqrt();
    let child = format!(
        r#"{{"children":[1],"translation":[1,2,3]}},{{"mesh":0,"scale":[2,1,4],"rotation":[0,{half},0,{half}]}}"#
    );
    let loaded = read(&[("{\"mesh\":0}", &child)]);
    let expected = [[1.0, 2.0, 3.0], [1.0, 2.0, 1.0], [1.0, 3.0, 3.0]];
    assert!(loaded.scene.positions.iter().zip(expected).all(|(a, b)| close(*a, b)), "{:?}", loaded.scene.positions);
    assert!(close(loaded.scene.normals[0], [1.0, 0.0, 0.0]), "{:?}", loaded.scene.normals);
}

#[test]
fn a_normal_stays_at_right_angles_in_a_skewed_and_in_a_mirrored_space() {
    let skewed = read(&[("\"mesh\":0", "\"mesh\":0,\"matrix\":[1,0,1,0, 0,1,0,0, 0,0,1,0, 0,0,0,1]")]);
    let half = 0.5_f32.sqrt();
    assert!(close(skewed.scene.normals[0], [-half, 0.0, half]), "{:?}", skewed.scene.normals);
    for scale in ["-1,1,1", "1,1,-1", "-2,-2,-2"] {
        let loaded = read(&[("\"mesh\":0", &format!("\"mesh\":0,\"scale\":[{scale}]"))]);
        let [a, b, c] =
            corners(&loaded)[0].map(|corner| glam::Vec3::from_array(loaded.scene.positions[corner as usize]));
        let front = (b - a).cross(c - a).normalize();
        assert!(front.dot(glam::Vec3::from_array(loaded.scene.normals[0])) > 0.99, "{scale}");
        assert_eq!(corners(&loaded), [[0, 2, 1]]);
    }
    let flat = read(&[("\"mesh\":0", "\"mesh\":0,\"scale\":[1,1,0]")]);
    assert!(close(flat.scene.normals[0], [0.0, 0.0, 1.0]));
}

#[test]
fn only_what_is_in_the_default_scene_is_used() {
    let cameras =
        r#""cameras":[{"type":"orthographic","orthographic":{"xmag":1,"ymag":2,"zfar":9,"znear":1}}],"materials""#;
    let json = [("{\"mesh\":0}]", r#"{"mesh":0},{"mesh":0,"camera":0}]"#), ("\"materials\"", cameras)];
    let loaded = read(&json);
    assert_eq!((loaded.scene.triangles.len(), loaded.cameras.len()), (1, 0));
    let loaded = read(&[
        json[0],
        json[1],
        ("\"scene\":0,\"scenes\":[", "\"scene\":1,\"scenes\":[{\"nodes\":[0]},"),
        ("[{\"nodes\":[0]},{\"nodes\":[0]}", "[{\"nodes\":[0]},{\"nodes\":[1]}"),
    ]);
    assert_eq!((loaded.scene.triangles.len(), loaded.cameras.len()), (1, 1));
    refuses("\"scene\":0", "\"scene\":3", "scene 3 does not exist, there are 1");
    refuses("\"scenes\":[{\"nodes\":[0]}],", "", "scene 0 does not exist, there are 0");
}

#[test]
fn cameras_are_in_world_space_in_the_order_of_nodes() {
    let half = 0.5_f32.sqrt();
    let nodes = format!(
        r#"[{{"mesh":0}},{{"camera":1}},
        {{"camera":0,"translation":[1,2,3],"rotation":[0,{half},0,{half}],"scale":[3,3,3]}}]"#
    );
    let cameras = r#""cameras":[{"type":"perspective","perspective":{"yfov":1.5707964,"znear":0.1}},
        {"type":"orthographic","orthographic":{"xmag":1,"ymag":2,"zfar":9,"znear":1}}],"materials""#;
    let json = [("[{\"mesh\":0}]", nodes.as_str()), ("\"nodes\":[0]", "\"nodes\":[2,0,1]"), ("\"materials\"", cameras)];
    let [flat, deep] = read(&json).cameras[..] else { panic!() };
    assert_eq!(flat.lens, Lens::Orthographic { half_height: 2.0 });
    assert_eq!(flat.axes, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
    let Lens::Perspective { tan_half_y } = deep.lens else { panic!("{deep:?}") };
    assert!((tan_half_y - 1.0).abs() < 1e-6 && deep.position == [1.0, 2.0, 3.0]);
    assert!(close(deep.axes[2], [1.0, 0.0, 0.0]) && close(deep.axes[0], [0.0, 0.0, -1.0]), "{:?}", deep.axes);
    let wrong = |from, to| refusal(&[json[0], json[1], json[2], (from, to)]);
    assert!(wrong("\"yfov\":1.5707964", "\"yfov\":3.2").contains("node 2: camera 0: its yfov is 3.2"));
    assert!(wrong("\"ymag\":2", "\"ymag\":0").contains("node 1: camera 1: its ymag is 0"));
    assert!(wrong("\"camera\":1", "\"camera\":7").contains("camera 7 does not exist, there are 2"));
    assert!(wrong("\"scale\":[3,3,3]", "\"scale\":[0,0,0]").contains("its camera has no direction"));
    assert!(wrong("\"perspective\",\"perspective\"", "\"perspective\",\"other\"").contains("neither perspective nor"));
}

#[test]
fn lights_are_in_world_space() {
    let lights = r#""extensionsUsed":["KHR_lights_punctual"],"extensions":{"KHR_lights_punctual":{"lights":[
        {"type":"point","color":[1,0.5,0],"intensity":10,"range":5},{"type":"directional"},
        {"type":"spot","spot":{"innerConeAngle":0,"outerConeAngle":0.5}}]}},"materials""#;
    let node = |i: u32, more: &str| format!(r#",{{"extensions":{{"KHR_lights_punctual":{{"light":{i}}}}}{more}}}"#);
    let nodes = format!(
        "{{\"mesh\":0}}{}{}{}",
        node(0, ",\"translation\":[1,2,3]"),
        node(1, ",\"rotation\":[1,0,0,0]"),
        node(2, "")
    );
    let json = [("\"materials\"", lights), ("\"nodes\":[0]", "\"nodes\":[0,1,2,3]"), ("{\"mesh\":0}", &nodes)];
    let loaded = read(&json);
    let [point, sun, spot] = loaded.scene.lights[..] else { panic!("{:?}", loaded.scene.lights) };
    assert_eq!(point, Light::Point { position: [1.0, 2.0, 3.0], intensity: [10.0, 5.0, 0.0] });
    assert!(
        matches!(sun, Light::Directional { direction, irradiance } if close(direction, [0.0, 0.0, 1.0]) && irradiance == [1.0; 3])
    );
    assert!(matches!(spot, Light::Spot { direction, cos_inner, cos_outer, .. }
        if close(direction, [0.0, 0.0, -1.0]) && cos_inner == 1.0 && (cos_outer - 0.5_f32.cos()).abs() < 1e-6));
    assert_eq!(loaded.warnings, ["the range of lights is ignored: light goes on"]);
    let wrong = |from, to| refusal(&[json[0], json[1], json[2], (from, to)]);
    assert!(wrong("\"light\":2", "\"light\":9").contains("node 3: light 9 does not exist, there are 3"));
    assert!(wrong("\"intensity\":10", "\"intensity\":-1").contains("light 0: its color times its intensity"));
    assert!(wrong("\"outerConeAngle\":0.5", "\"outerConeAngle\":5").contains("light 2: its cone is from 0 to 5"));
    assert!(wrong("\"spot\":{", "\"sport\":{").contains("light 2 is neither point, spot nor directional"));
}

#[test]
fn a_material_keeps_its_numbers() {
    let json = r#"{"doubleSided":true,"emissiveFactor":[1,0.5,0],
        "pbrMetallicRoughness":{"baseColorFactor":[0.5,2,0.25,1],"metallicFactor":0.75,"roughnessFactor":0.5},
        "extensions":{"KHR_materials_emissive_strength":{"emissiveStrength":8},
        "KHR_materials_specular":{"specularFactor":0.125,"specularColorFactor":[1,1,0]}}}"#;
    let loaded = read(&[("\"materials\":[{}]", &format!("\"materials\":[{json}]"))]);
    let expected = Material {
        base_color: [0.5, 1.0, 0.25],
        emission: [8.0, 4.0, 0.0],
        metallic: 0.75,
        roughness: 0.5,
        specular: 0.125,
        double_sided: 1,
        ..Material::default()
    };
    assert_eq!(material(&loaded), &expected);
    assert_eq!(loaded.warnings, ["KHR_materials_specular: only its specularFactor is used"]);
    refuses("[{}]", r#"[{"emissiveFactor":[-1,0,0]}]"#, "material 0: its emission is [-1.0, 0.0, 0.0]");
    refuses("\"material\":0", "\"material\":4", "mesh 0, primitive 0: material 4 does not exist, there are 1");
}

/// Of a material with these textures, in JSON; image 0 is a data URI, image 1 in a buffer view.
fn textured(material: &str, samplers: &str) -> Result<Loaded, String> {
    let image = png(2, 1, [10, 20, 30]);
    let uri = base64_simd::STANDARD.encode_to_string(&image);
    let images = format!(
        r#""images":[{{"uri":"data:image/png;base64,{uri}"}},{{"bufferView":4,"mimeType":"image/png"}}],
        "samplers":[{samplers}],
        "textures":[{{"source":0}},{{"source":1,"sampler":0}},{{"source":0}}],"materials":[{material}]"#
    );
    let view = format!("\"byteLength\":24}},{{\"buffer\":0,\"byteOffset\":104,\"byteLength\":{}}}]", image.len());
    let length = format!("\"byteLength\":{}", 104 + image.len());
    let changes =
        [("\"materials\":[{}]", images.as_str()), ("\"byteLength\":24}]", &view), ("\"byteLength\":104", &length)];
    load(&changed(&changes), &[vertices(), image].concat())
}

const SAMPLER: &str = r#"{"wrapS":33071,"wrapT":33648}"#;

#[test]
fn textures_come_from_uris_and_buffer_views_once_each() {
    let json = r#"{"pbrMetallicRoughness":{"baseColorTexture":{"index":0},"metallicRoughnessTexture":{"index":1}},
        "emissiveTexture":{"index":2},"normalTexture":{"index":0},"occlusionTexture":{"index":0},"alphaMode":"MASK"}"#;
    let loaded = textured(json, SAMPLER).unwrap();
    let [first, second] = &loaded.scene.textures[..] else { panic!("{:?}", loaded.scene.textures) };
    assert_eq!((first.width, first.height, &first.texels), (2, 1, &vec![[10, 20, 30, 255]; 2]));
    assert_eq!((first.wrap, second.wrap), ([Wrap::Repeat; 2], [Wrap::Clamp, Wrap::Mirror]));
    let material = material(&loaded);
    let used = [material.base_color_texture, material.emission_texture, material.metallic_roughness_texture];
    assert_eq!(used, [0, 0, 1]);
    let expected = [
        "alphaMode is ignored: everything is opaque",
        "normalTexture is ignored",
        "occlusionTexture is ignored: path tracing finds out itself",
    ];
    assert_eq!(loaded.warnings, expected);
    let of = |index: u32| format!(r#"{{"emissiveTexture":{{"index":{index}}}}}"#);
    assert!(textured(&of(7), SAMPLER).unwrap_err().contains("material 0: texture 7 does not exist, there are 3"));
    assert!(textured(&of(1), "").unwrap_err().contains("sampler 0 does not exist, there are 0"));
    assert!(textured(&of(1), r#"{"wrapS":1}"#).unwrap_err().contains("a sampler wraps in a way"));
    assert_eq!(textured("{}", "").unwrap().scene.textures, []);
}

#[test]
fn texture_coordinates_are_transformed() {
    let of = |transform: &str| {
        let extension = format!("\"extensions\":{{\"KHR_texture_transform\":{{{transform}}}}}");
        let json = format!(r#"{{"pbrMetallicRoughness":{{"baseColorTexture":{{"index":0,{extension}}}}}}}"#);
        textured(&json, SAMPLER).unwrap()
    };
    assert_eq!(of(r#""offset":[0.5,0.25],"scale":[2,4]"#).scene.uvs, [[0.5, 0.25], [2.5, 0.25], [1.0, 4.25]]);
    let turned = of(r#""rotation":1.5707964,"scale":[2,1]"#);
    assert!((turned.scene.uvs[1][0]).abs() < 1e-6 && (turned.scene.uvs[1][1] + 2.0).abs() < 1e-6, "{turned:?}");
    assert!(of("\"texCoord\":1").scene.uvs.is_empty());
}

#[test]
fn textures_that_disagree_about_their_coordinates_are_said() {
    let json = r#"{"pbrMetallicRoughness":{"baseColorTexture":{"index":0}},"emissiveTexture":{"index":2,"texCoord":1,
        "extensions":{"KHR_texture_transform":{"scale":[2,2]}}}}"#;
    let loaded = textured(json, SAMPLER).unwrap();
    let expected = [
        "several UV sets: all textures of a material use that of the first",
        "KHR_texture_transform: all textures of a material use that of the first",
    ];
    assert_eq!((loaded.warnings, loaded.scene.uvs.len()), (expected.map(str::to_owned).to_vec(), 3));
}

#[test]
fn a_damaged_or_missing_image_is_named() {
    let material = r#""materials":[{"emissiveTexture":{"index":0}}]"#;
    let with = |image: &str| {
        let images = format!(r#""images":[{image}],"textures":[{{"source":0}}],{material}"#);
        refusal(&[("\"materials\":[{}]", &images)])
    };
    assert!(
        with(r#"{"uri":"a.png"}"#)
            .contains("material 0: image 0: it refers to the file \"a.png\"; a scene sent by itself")
    );
    assert!(with(r#"{"uri":"data:image/png;base64,AAAA"}"#).contains("image 0: it is neither a PNG nor a JPEG"));
    assert!(with(r#"{"uri":"data:image/png;base64,A*"}"#).contains("the base64 of its data URI is damaged"));
    assert!(with(r#"{"uri":"data:text/plain,abc"}"#).contains("its data URI is not base64"));
    assert!(with("{}").contains("it has neither a bufferView nor a uri"));
    assert!(with(r#"{"bufferView":9}"#).contains("bufferView 9 does not exist, there are 4"));
}

#[test]
fn what_is_not_supported_is_said_once_by_name() {
    let primitive = r#""indices":1,"targets":[{"POSITION":0}]"#;
    let more = r#""skins":[{"joints":[0]}],"animations":[{"channels":[],"samplers":[]}],
        "extensionsUsed":["EXT_a","EXT_a","KHR_lights_punctual"],"materials""#;
    let loaded = read(&[
        ("\"indices\":1", primitive),
        ("\"materials\"", more),
        ("\"TEXCOORD_0\":3", "\"TEXCOORD_0\":3,\"COLOR_0\":0,\"_OWN\":0"),
        ("}]}]", "},{\"attributes\":{},\"mode\":0},{\"attributes\":{},\"mode\":3}]}]"),
    ]);
    let expected = [
        "the extension \"EXT_a\" is ignored",
        "animations are ignored: everything stands where its nodes say",
        "skins are ignored: meshes stand as they were bound",
        "colors of vertices are ignored",
        "morph targets are ignored",
        "points and lines are not shown",
    ];
    assert_eq!(loaded.warnings, expected);
    refuses("\"materials\"", r#""extensionsRequired":["EXT_a"],"materials""#, "requires the extension \"EXT_a\"");
}

#[test]
fn sparse_accessors_replace_elements() {
    let sparse = r#""count":3,"sparse":{"count":2,"indices":{"bufferView":1,"byteOffset":2,"componentType":5123},
        "values":{"bufferView":2,"byteOffset":12}}}"#;
    let loaded = read(&[("\"count\":3}", sparse)]);
    assert_eq!(loaded.scene.positions, [[0.0; 3], [0.0, 0.0, 2.0], [0.0; 3]]);
    let wrong = |from, to, words: &str| {
        let reason = refusal(&[("\"count\":3}", sparse), (from, to)]);
        assert!(reason.contains(words), "{to}: {reason}");
    };
    wrong("[{\"bufferView\":0,", "[{", "accessor 0: it has no bufferView; accessors that are only sparse are not read");
    wrong("\"byteOffset\":12", "\"byteOffset\":13", "accessor 0: its 2 elements from 13 on are beyond the 36 bytes");
    wrong("{\"count\":2", "{\"count\":18446744073709551615", "are beyond the 6 bytes of bufferView 1");
    wrong("{\"count\":2", "{\"count\":0", "accessor 0: it has no elements");
    wrong("\"bufferView\":1,\"byteOffset\":2", "\"bufferView\":2,\"byteOffset\":20", "accessor 0: its sparse index");
    wrong("5123},", "5126},", "the componentType of its sparse indices is not one of glTF's");
    let indices = format!("\"type\":\"SCALAR\",{sparse}");
    let reason = refusal(&[("\"type\":\"SCALAR\",\"count\":3}", &indices)]);
    assert!(reason.contains("accessor 1: it is sparse, which indices cannot be here"), "{reason}");
}

#[test]
fn what_an_application_adds_is_passed_over() {
    let loaded = read(&[
        ("\"mesh\":0", r#""mesh":0,"extras":{"a":[1,{}],"b":"c"},"other":[1]"#),
        ("\"nodes\":[0]", r#""nodes":[0],"extras":{}"#),
        ("\"materials\":[{}]", r#""extras":{"a":{}},"materials":[{"extensions":{"EXT_a":{"b":[1]}}}]"#),
    ]);
    assert_eq!((corners(&loaded), loaded.warnings), (vec![[0, 1, 2]], Vec::<String>::new()));
}

#[test]
fn a_glb_is_read_from_a_file_and_from_a_body() {
    let temp = tempfile::tempdir().unwrap();
    let bytes = glb(TRIANGLE, &vertices());
    std::fs::write(temp.path().join("a.glb"), &bytes).unwrap();
    let loaded = super::super::file(&temp.path().join("a.glb")).unwrap();
    assert_eq!(loaded, super::super::bytes(&bytes).unwrap());
    std::fs::write(temp.path().join("a.gltf"), TRIANGLE).unwrap();
    let reason = super::super::file(&temp.path().join("a.gltf")).unwrap_err().to_string();
    assert!(reason.contains("a.gltf: buffer 0: it has no uri, and there is no binary chunk"), "{reason}");
}

#[test]
fn quantized_vertices_are_read() {
    let mut chunk = vertices();
    chunk[44..53].copy_from_slice(&[0, 0, 127, 0, 0, 129, 0, 0x80, 0]);
    let json = changed(&[
        (
            r#""bufferView":2,"componentType":5126,"type":"VEC3","#,
            r#""bufferView":2,"componentType":5120,"normalized":true,"type":"VEC3","#,
        ),
        (r#""bufferView":3,"componentType":5126"#, r#""bufferView":2,"componentType":5121"#),
        ("\"materials\"", r#""extensionsRequired":["KHR_mesh_quantization"],"materials""#),
    ]);
    let scene = load(&json, &chunk).unwrap().scene;
    assert_eq!(scene.normals, [[0.0, 0.0, 1.0], [0.0, 0.0, -1.0], [0.0, -1.0, 0.0]]);
    assert_eq!(scene.uvs, [[0.0, 0.0], [127.0, 0.0], [0.0, 129.0]]);
}
