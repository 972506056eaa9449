//! Files that were not made by an exporter.

use proptest::prelude::*;

use super::tests::{TRIANGLE, changed, glb, load, refusal, refuses, vertices};
use super::*;

fn refused(bytes: &[u8]) -> String {
    binary(bytes, &Folder::none()).unwrap_err()
}

#[test]
fn a_truncated_glb_is_refused_at_every_length() {
    let whole = glb(TRIANGLE, &vertices());
    for len in 4..whole.len() {
        let reason = refused(&whole[..len]);
        assert!(reason.contains("truncated, save it again"), "{len}: {reason}");
    }
    assert!(refused(b"glT").contains("does not begin with \"glTF\""));
}

#[test]
fn lengths_in_a_glb_are_not_believed() {
    let whole = glb(TRIANGLE, &vertices());
    let with = |place: usize, number: u32| {
        let mut bytes = whole.clone();
        bytes[place..place + 4].copy_from_slice(&number.to_le_bytes());
        refused(&bytes)
    };
    assert!(with(4, 1).contains("glTF version 1; version 2 is read"));
    for length in [0, 11, u32::MAX] {
        assert!(with(8, length).contains("is truncated"), "{length}");
    }
    assert!(with(8, 12).contains("no JSON chunk"));
    assert!(with(12, u32::MAX).contains("a chunk of 4294967295 bytes goes beyond its end"));
    assert!(with(16, 7).contains("no JSON chunk"));
}

#[test]
fn json_that_is_no_scene_is_refused() {
    let json = |json: &str| refused(&glb(json, &[]));
    assert!(json("{").contains("its JSON is not a scene's (EOF"));
    assert!(json("[]").contains("its JSON is not a scene's"));
    assert!(json("{\"asset\":{\"version\":\"2.0\"}}").contains("scene 0 does not exist, there are 0"));
    let long = json(&format!("{{\"scene\":\"{}\"}}", "é{}".repeat(1000)));
    assert!(long.len() < 500 && long.contains("column"), "{long}");
    let deep = |before: &str| json(&format!("{{{before}{}{},\"asset\":0}}", "[".repeat(200_000), "]".repeat(200_000)));
    assert!(deep("\"other\":").contains("its JSON is not a scene's (invalid type"), "{}", deep("\"other\":"));
    assert!(deep("\"accessors\":[{\"min\":").contains("recursion limit"), "{}", deep("\"accessors\":[{\"min\":"));
    let many = format!("{{\"materials\":[{}{{}}]}}", "{},".repeat(200_000));
    assert!(json(&many).contains("its JSON holds 200002 objects"), "{}", json(&many));
}

#[test]
fn an_accessor_or_view_beyond_the_bytes_is_named() {
    let first = "\"type\":\"VEC3\",\"count\":3";
    for count in ["4", "10000000000", "18446744073709551615"] {
        let to = format!("\"type\":\"VEC3\",\"count\":{count}");
        refuses(first, &to, "mesh 0, primitive 0: accessor 0: its ");
        refuses(first, &to, &format!("its {count} elements from 0 on are beyond the 36 bytes of bufferView 0"));
    }
    refuses(first, "\"type\":\"VEC3\",\"count\":0", "accessor 0: it has no elements");
    refuses(first, "\"type\":\"VEC3\",\"byteOffset\":18446744073709551615,\"count\":3", "are beyond the 36 bytes");
    refuses(first, "\"type\":\"VEC2\",\"count\":3", "accessor 0: it holds Vec2 of F32; Vec3 is needed here");
    refuses(first, "\"type\":\"VEC9\",\"count\":3", "accessor 0: its type or componentType is not one of glTF's");
    refuses("5126", "5127", "accessor 0: its type or componentType is not one of glTF's");
    refuses("5126,\"type\":\"VEC3\",\"count\":3", "5125,\"type\":\"VEC3\",\"count\":3", "it holds Vec3 of U32");
    refuses("5123", "5126", "accessor 1: its 3 elements from 0 on are beyond the 6 bytes of bufferView 1");
    let view = "\"byteLength\":36}";
    for (length, words) in
        [("105", "105 bytes from 0 on"), ("18446744073709551615", "are beyond the 104 bytes of buffer 0")]
    {
        refuses(view, &format!("\"byteLength\":{length}}}"), words);
    }
    refuses(view, "\"byteOffset\":18446744073709551615,\"byteLength\":36}", "are beyond the 104 bytes of buffer 0");
    refuses(view, "\"byteStride\":0,\"byteLength\":36}", "its elements of 12 bytes are to be 0 bytes apart");
    refuses(view, "\"byteStride\":18446744073709551615,\"byteLength\":36}", "are beyond the 36 bytes of bufferView 0");
    refuses("{\"buffer\":0,", "{\"buffer\":1,", "buffer 1 does not exist, there are 1");
    refuses(
        "\"byteLength\":104",
        "\"byteLength\":10000000000",
        "buffer 0: it is to have 10000000000 bytes, and has 104",
    );
    refuses("[{\"byteLength\":104}", "[{},{\"byteLength\":104}", "buffer 1: it has no uri");
}

#[test]
fn an_index_that_leads_nowhere_is_named() {
    refuses("\"POSITION\":0", "\"POSITION\":4", "accessor 4 does not exist, there are 4");
    refuses("\"POSITION\":0", "\"POSITION\":4294967295", "accessor 4294967295 does not exist");
    refuses("\"NORMAL\":2", "\"NORMAL\":9", "accessor 9: accessor 9 does not exist");
    refuses("\"POSITION\":0,", "", "mesh 0, primitive 0: it has no POSITION");
    refuses("\"bufferView\":0", "\"bufferView\":77", "accessor 0: bufferView 77 does not exist, there are 4");
    refuses("\"mesh\":0", "\"mesh\":1", "node 0: mesh 1 does not exist, there are 1");
    refuses("\"nodes\":[0]", "\"nodes\":[1]", "node 1 does not exist, there are 1");
    refuses("\"mesh\":0", "\"mesh\":0,\"children\":[1]", "node 1 does not exist, there are 1");
    refuses("\"mesh\":0", "\"mesh\":0,\"camera\":0", "node 0: camera 0 does not exist, there are 0");
    let light = "\"mesh\":0,\"extensions\":{\"KHR_lights_punctual\":{\"light\":0}}";
    refuses("\"mesh\":0", light, "node 0: light 0 does not exist, there are 0");
    let count = "VEC3\",\"count\":3},\n{\"bufferView\":3";
    refuses(count, "VEC3\",\"count\":2},\n{\"bufferView\":3", "its NORMAL and POSITION are not equally many");
}

#[test]
fn an_index_beyond_the_vertices_is_named() {
    for index in [3, 0xffff_u16] {
        let mut chunk = vertices();
        chunk[38..40].copy_from_slice(&index.to_le_bytes());
        let reason = load(TRIANGLE, &chunk).unwrap_err();
        assert!(
            reason.ends_with(&format!("accessor 1: index {index} (element 1) is beyond the 3 vertices")),
            "{reason}"
        );
    }
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    for (place, words) in
        [(12, "accessor 0: element 1 is [NaN, 0.0, 0.0]"), (44, "accessor 2: element 0"), (80, "accessor 3")]
    {
        let mut chunk = vertices();
        chunk[place..place + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        let reason = load(TRIANGLE, &chunk).unwrap_err();
        assert!(reason.contains(words) && reason.ends_with("it must be finite"), "{reason}");
    }
    refuses("\"mesh\":0", "\"mesh\":0,\"scale\":[1e38,1,1],\"translation\":[3e38,0,0]", "vertex 1: position is [inf");
    refuses("\"mesh\":0", "\"mesh\":0,\"translation\":[1e60,0,0]", "number out of range");
}

#[test]
fn nodes_that_are_not_a_tree_are_refused() {
    let words = "has two parents, or is its own ancestor";
    refuses("\"mesh\":0", "\"mesh\":0,\"children\":[0]", words);
    refuses("{\"mesh\":0}", "{\"children\":[1]},{\"children\":[2]},{\"children\":[1]}", words);
    refuses("{\"mesh\":0}", "{\"children\":[1,1]},{\"mesh\":0}", words);
    refuses("\"nodes\":[0]", "\"nodes\":[0,0]", words);
}

#[test]
fn a_chain_of_nodes_may_be_longer_than_the_stack() {
    let count = 100_000;
    let chain: String = (1..count).map(|child| format!("{{\"children\":[{child}]}},")).collect();
    let loaded = load(&changed(&[("{\"mesh\":0}", &format!("{chain}{{\"mesh\":0}}"))]), &vertices()).unwrap();
    assert_eq!(loaded.scene.triangles.len(), 1);
}

#[test]
fn a_mesh_that_is_placed_too_often_is_refused_before_it_is_made() {
    let nodes = vec!["{\"mesh\":0,\"name\":\"a\"}"; 1000].join(",");
    let roots: Vec<String> = (0..1000).map(|node| node.to_string()).collect();
    let (nodes, roots) = (format!("[{nodes}]"), format!("\"nodes\":[{}]", roots.join(",")));
    let corners = 3 * 50_001;
    let changes = [
        ("[{\"mesh\":0}]", nodes.as_str()),
        ("\"nodes\":[0]", &roots),
        ("5123,\"type\":\"SCALAR\",\"count\":3", &format!("5121,\"type\":\"SCALAR\",\"count\":{corners}")),
        ("\"byteOffset\":36,\"byteLength\":6", &format!("\"byteOffset\":104,\"byteLength\":{corners}")),
        ("\"byteLength\":104", &format!("\"byteLength\":{}", 104 + corners)),
    ];
    let chunk = [vertices(), vec![0; corners]].concat();
    let reason = load(&changed(&changes), &chunk).unwrap_err();
    assert!(
        reason.contains("its meshes come to more than 50000000 triangles") && reason.contains("node 999"),
        "{reason}"
    );
}

#[test]
fn a_scene_without_geometry_is_refused() {
    assert!(refusal(&[("\"mesh\":0", "")]).contains("no geometry"));
    refuses("\"indices\":1", "\"indices\":1,\"mode\":0", "no geometry");
    refuses("\"nodes\":[0]", "\"nodes\":[]", "no geometry");
}

/// A .gltf with files beside it.
fn with_files(uri: &str, files: &[(&str, &[u8])]) -> Result<Loaded, String> {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("scene");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(temp.path().join("secret"), vertices()).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(temp.path().join("secret"), folder.join("link")).unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(folder.join(name), bytes).unwrap());
    let text = changed(&[("\"byteLength\":104", &format!("\"uri\":\"{uri}\",\"byteLength\":104"))]);
    let loaded = json(text.as_bytes(), &Folder::of(&folder.join("scene.gltf")).unwrap())?;
    loaded.scene.check()?;
    Ok(loaded)
}

#[test]
fn a_gltf_reads_the_files_beside_it() {
    let files: [(&str, &[u8]); 1] = [("a b.bin", &vertices())];
    assert_eq!(with_files("a%20b.bin", &files).unwrap().scene.triangles.len(), 1);
    assert_eq!(with_files("a b.bin", &files).unwrap().scene.triangles.len(), 1);
    let uri = format!("data:application/octet-stream;base64,{}", base64_simd::STANDARD.encode_to_string(vertices()));
    assert_eq!(with_files(&uri, &[]).unwrap().scene.triangles.len(), 1);
    assert!(
        json(TRIANGLE.as_bytes(), &Folder::none()).unwrap_err().contains("it has no uri, and there is no binary chunk")
    );
}

#[test]
fn a_missing_or_short_buffer_is_named() {
    let reason = with_files("none.bin", &[]).unwrap_err();
    assert!(reason.contains("buffer 0: it refers to the file \"none.bin\", which cannot be read"), "{reason}");
    let reason = with_files("a.bin", &[("a.bin", &vertices()[..103])]).unwrap_err();
    assert!(reason.contains("buffer 0: it is to have 104 bytes, and has 103: it is truncated"), "{reason}");
}

#[test]
fn a_uri_that_leaves_the_folder_is_refused() {
    let uris = ["../secret", "%2e%2e/secret", "%2E%2E%2Fsecret", "x/../../secret", "/etc/passwd", "%2fetc/passwd"];
    for uri in uris.into_iter().chain(["file:///etc/passwd", "http://a/b", "https:x", "..%5csecret", "", "a%00b"]) {
        let reason = with_files(uri, &[]).unwrap_err();
        assert!(reason.contains("only files in its own folder and below are read"), "{uri}: {reason}");
    }
    assert!(with_files("%ff", &[]).unwrap_err().contains("is not UTF-8"));
    assert!(with_files("%252e%252e/secret", &[]).unwrap_err().contains("\"%2e%2e/secret\", which cannot be read"));
    #[cfg(unix)]
    assert!(with_files("link", &[]).unwrap_err().contains("only files in its own folder and below are read"));
}

proptest! {
    #[test]
    fn a_changed_byte_is_an_error_or_a_scene_that_is_right(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = glb(TRIANGLE, &vertices());
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(loaded) = super::super::bytes(&bytes) {
            prop_assert!(loaded.scene.check().is_ok());
        }
    }

    #[test]
    fn a_changed_number_is_an_error_or_a_scene_that_is_right(
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), "-?[0-9]{1,2}|1[0-9]{9,19}|1e38|5120|5121|5125|null"),
            1..4,
        ),
    ) {
        let more = r#","emissiveTexture":{"index":0}}],"textures":[{"source":0,"sampler":0}],
            "images":[{"bufferView":1}],"samplers":[{"wrapS":10497}],
            "cameras":[{"type":"perspective","perspective":{"yfov":1,"znear":1}}],"accessors""#;
        let node = r#""mesh":0,"camera":0,"scale":[1,2,3],"children":[1]},{"rotation":[0,0,0,1]"#;
        let json = changed(&[("{}],\"accessors\"", &format!("{{\"doubleSided\":true{more}")), ("\"mesh\":0", node)]);
        let begins = |(place, c): &(usize, char)| c.is_ascii_digit() && b":[,".contains(&json.as_bytes()[place - 1]);
        let numbers: Vec<usize> = json.char_indices().filter(begins).map(|(place, _)| place).collect();
        let mut json = json;
        let placed = changes.into_iter().map(|(place, number)| (numbers[place.index(numbers.len())], number));
        let mut places: Vec<_> = placed.collect();
        places.sort();
        for (start, number) in places.into_iter().rev() {
            let end = json[start..].find(|c: char| !c.is_ascii_digit()).map_or(start, |len| start + len);
            json.replace_range(start..end, &number);
        }
        if let Ok(loaded) = super::super::bytes(&glb(&json, &vertices())) {
            prop_assert!(loaded.scene.check().is_ok());
        }
    }

    #[test]
    fn any_bytes_are_a_scene_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..200), head in any::<bool>(),
    ) {
        let bytes = if head { [b"glTF\x02\0\0\0", &bytes[..]].concat() } else { bytes };
        let _ = binary(&bytes, &Folder::none());
        let _ = json(&bytes, &Folder::none());
    }
}
