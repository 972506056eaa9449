//! Inputs to begin with: small, and right or nearly so, of every form that a reader knows.

use std::io::Cursor;

use image::{DynamicImage, ImageFormat};
use rabbitry::task::{Format, Task, TaskError, TaskId, WorkerRef, WorkerTimes};
use rabbitry::tasks::render::scene::{
    Light, Material, PhongMaterial, Scene, Sphere, Surfaces, Texture, Triangle, Wrap,
};
use rabbitry::tasks::render::trace::{Tile, View};
use rabbitry::tasks::render::{EncodedScene, TileTask, load};
use rabbitry::tasks::solve::{Base64, Matrix, SolveHandler, System};
use rabbitry::wire::{
    self, Cancelled, Command, Control, Gone, Heartbeat, OutcomeHead, Part, Progress, PullRequest, Share, TaskHead,
};

use super::scenes::container;

/// The text that becomes most in memory: a piece many times, between a beginning and an end.
fn many(begin: &str, piece: &str, count: usize, end: &str) -> Vec<u8> {
    [begin, &piece.repeat(count), end].concat().into_bytes()
}

fn task_head(payload: &[u8], pull_from: Option<&str>) -> TaskHead {
    TaskHead {
        id: TaskId(0x0102_0304_0506_0708),
        kind: "solve".into(),
        attempt: 1,
        format: Format::Binary,
        deadline_unix_ms: 1_700_000_000_000,
        sent_unix_ms: 0,
        flops: 1 << 40,
        payload_bytes: payload.len() as u64,
        checksum: Some(wire::checksum(&[payload])),
        pull_from: pull_from.map(str::to_owned),
        progress_to: Some("rabbitry.results.boss".into()),
        params: System::random(3, 1, 0).to_params(),
    }
}

/// Switches, the length of the heads, the heads, and the body: [`super::records::head`].
pub fn heads() -> Vec<Vec<u8>> {
    let message = |switches: u8, heads: &[TaskHead], body: &[u8]| {
        let mut records = Vec::new();
        heads.iter().for_each(|head| wire::encode_into(head, &mut records));
        [&[switches][..], &(records.len() as u16).to_le_bytes(), &records, body].concat()
    };
    let batch =
        [task_head(b"first", None), task_head(b"large", Some("rabbitry.pull.boss")), task_head(b"second!", None)];
    let empty =
        TaskHead { kind: String::new(), checksum: None, progress_to: None, params: Vec::new(), ..task_head(b"", None) };
    vec![
        message(0, &batch[..1], b"first"),
        message(0x70, &batch, b"firstsecond!"),
        message(0x41, &batch, b"any bytes at all"),
        message(1, &batch[1..2], b""),
        message(0, &vec![empty; 50], b""),
        message(2, &[], br#"{"a": [[1]], "b": [1]}"#),
    ]
}

fn outcome_head(error: Option<TaskError>) -> OutcomeHead {
    OutcomeHead {
        id: TaskId(7),
        run: 9,
        worker: WorkerRef { id: "host-1-abcd".into(), host: "host".into() },
        compute_ns: 1_000_000,
        times: Some(WorkerTimes { received_ns: 1, sent_ns: 6, ..WorkerTimes::default() }),
        error,
        format: Format::Json,
        payload_bytes: 5,
        checksum: Some(wire::checksum(&[b"first"])),
        in_parts: false,
        params: vec![1, 2, 3],
    }
}

/// Heads of outcomes, one with each error.
pub fn outcomes() -> Vec<Vec<u8>> {
    let errors = [
        TaskError::Invalid("A is empty".into()),
        TaskError::Singular { pivot: 3 },
        TaskError::UnknownKind { kind: "solv".into(), known: "solve, render".into() },
        TaskError::TooLarge { needed_bytes: 1 << 40, limit_bytes: 1 << 30 },
        TaskError::DeadlineExceeded,
        TaskError::TooManyAttempts { attempts: 5 },
        TaskError::Panicked("at the disco".into()),
        TaskError::Cancelled,
    ];
    let heads: Vec<_> = [None].into_iter().chain(errors.map(Some)).map(outcome_head).collect();
    let all = heads.iter().flat_map(wire::encode).collect();
    heads.iter().map(wire::encode).chain([all]).collect()
}

/// Words of every sort, alone and several.
pub fn controls() -> Vec<Vec<u8>> {
    let task = TaskId(5);
    let commands =
        [Command::WhoIsThere, Command::BossGone { reply_to: "rabbitry.results.boss".into() }, Command::Cancel { task }]
            .map(|command| wire::encode(&Control { command }));
    let (all, short) = (commands.concat(), commands[0].repeat(400));
    let others = [
        wire::encode(&Cancelled { task, boss: "boss".into() }),
        wire::encode(&PullRequest { id: task, run: 7, first: 2, count: 2, part_bytes: 4_000_000 }),
        wire::encode(&Gone { id: task, run: 7 }),
        wire::encode(&Part { id: task, run: 7, index: 1, part_bytes: 4, total_bytes: 9, checksum: 1 }),
    ];
    commands.into_iter().chain([all, short]).chain(others).collect()
}

/// A heartbeat and a report of progress.
pub fn heartbeats() -> Vec<Vec<u8>> {
    let heartbeat = Heartbeat {
        worker: WorkerRef { id: "host-1-abcd".into(), host: "host".into() },
        address: "192.0.2.1:40000".into(),
        pid: 4711,
        cores: 8,
        slots: 8,
        busy: 3,
        kinds: vec!["solve".into(), "render".into()],
        gflops: 47.5,
        version: "0.1.0".into(),
        done: 12,
        failed: 1,
        leaving: false,
    };
    let tasks = vec![Share { task: TaskId(1), permille: 500 }, Share { task: TaskId(2), permille: 1000 }];
    vec![
        wire::encode(&heartbeat),
        wire::encode(&Heartbeat { leaving: true, ..heartbeat }),
        wire::encode(&Progress { tasks }),
    ]
}

/// Messages as [`super::parts::part`] takes them apart: an answer in two parts and its head.
pub fn parts() -> Vec<Vec<u8>> {
    let part = |index: u8, body: &[u8]| [&[0, 1, 2, 4, 0, 7, 0, index][..], body].concat();
    let head = [200, 1, 2];
    let answer = [&part(1, b"efg")[..], &part(0, b"abcd"), &head].concat();
    let cut = [&24_u64.to_le_bytes()[..], &[0], &5_u64.to_le_bytes(), &[0], &[7; 24]].concat();
    vec![[&answer[..], &[250, 1], &answer].concat(), answer, cut]
}

/// Parameters of tasks and of answers, with their payloads: [`super::params::params`].
pub fn params() -> Vec<Vec<u8>> {
    let input = |which: u8, payload_bytes: u64, parts: &[&[u8]]| {
        [&[which][..], &payload_bytes.to_le_bytes(), &[0], &parts.concat()].concat()
    };
    let system = System::random(3, 1, 0);
    let task = system.to_params();
    let solution = SolveHandler::uncalibrated(100).solve(&system, 1, &Default::default());
    let answer = solution.and_then(|solution| solution.to_blob(&task, Format::Binary)).expect("a solution");
    let payload = [&system.a.into_bytes()[..], &system.b.into_bytes()].concat();
    let view = View { camera: load::framing(&small()), width: 4, height: 2, seed: 3, depth: 8, roulette: true };
    let tile = Tile { x: 1, y: 0, width: 2, height: 1 };
    let tile = TileTask { scene: EncodedScene::new(&small()), view, tile, samples: 0..4 };
    let tile = tile.encode(Format::Binary).expect("a tile").blob.params;
    vec![
        input(0, payload.len() as u64, &[&task, &payload]),
        input(1, 96, &[&task, &[answer.params.len() as u8], &answer.params, &answer.payload.concat()]),
        input(2, 4096, &[&tile, &[0; 16], &[0; 24]]),
    ]
}

/// Systems as people and programs write them.
pub fn json_tasks() -> Vec<Vec<u8>> {
    let (a, b) = (System::random(2, 1, 0).a, Matrix::vector(vec![1.0, -2.5e-300]));
    let packed = serde_json::json!({"a": Base64(&a), "b": Base64(&b), "method": "lu"}).to_string();
    [
        r#"{"a": [[2, 1], [0, -4e0]], "b": [2.5, 2], "method": "auto", "reproducible": true}"#,
        r#"{"b": [[-0, 1e300], [9007199254740993, 0.1]], "a": [[1.7976931348623157e308, 5e-324], [1, 2]]}"#,
        r#"{"a":[[1]],"b":[1],"priority":"high","deadline_ms":60000,"method":"lst\u0073q"}"#,
        r#"{"a": {"shape": [1, 2], "dtype": "<f4", "data": "AACAPwAAAEA="}, "b": {"shape":[1],"dtype":"<f8","order":"F","data":"AAAAAAAA8D8="}}"#,
        r#"{"a": [[1, 2], [3]], "b": [NaN]}"#,
        "{\"a\": [[1, 2],\n [3, 4]], \"b\": [1, 2]",
        &packed,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into_iter()
    .chain([many("{\"a\":[", ",", 4000, ""), many("{\"b\":[0],\"a\":[[", "0,", 2000, "0]]}")])
    .collect()
}

/// Solutions likewise.
pub fn json_answers() -> Vec<Vec<u8>> {
    let certificate = r#"{"method":"mixed-cholesky","tried":["mixed","lu"],"backward_error":1e-17,"rcond":0.001,"forward_error_bound":null,"iterations":3,"threads":2,"factor_seconds":0.1,"solve_seconds":0.2,"reproducible":"mkl"}"#;
    [
        format!(r#"{{"x": [1, 0.5], "certificate": {certificate}}}"#),
        format!(r#"{{"certificate": {certificate}, "x": [[1, 2], [3, 4]]}}"#),
        format!(r#"{{"x": {{"shape":[1],"dtype":"<f8","data":"AAAAAAAA8D8="}}, "certificate": {certificate}}}"#),
    ]
    .map(String::into_bytes)
    .into()
}

/// Arrays of several types, versions and shapes.
pub fn npy() -> Vec<Vec<u8>> {
    let file = |version: u8, descr: &str, fortran: &str, shape: &str, data: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}\n");
        let len = header.len() as u32;
        let len = if version == 1 { len.to_le_bytes()[..2].to_vec() } else { len.to_le_bytes().to_vec() };
        [b"\x93NUMPY", &[version, 0][..], &len, header.as_bytes(), data].concat()
    };
    let long = (many("(", "1,", 40, ")"), many("(", "1,", 1900, ")"));
    let [long, longer] =
        [long.0, long.1].map(|shape| file(1, "<f8", "False", &String::from_utf8_lossy(&shape), &[0; 8]));
    vec![
        long,
        longer,
        file(1, "<f8", "False", "(2, 1)", &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0]),
        file(2, ">f4", "True", "(1, 3)", &[0x3f, 0x80, 0, 0, 0x40, 0, 0, 0, 0x7f, 0xc0, 0, 0]),
        file(3, "|b1", "False", "(4,)", &[0, 1, 2, 0xff]),
        file(1, ">i2", "True", "(2, 2)", &[0, 1, 0x80, 0, 0xff, 0xff, 1, 2]),
        file(1, "<u8", "False", "(0, 5)", &[]),
        file(1, "<c16", "False", "()", &[0; 16]),
    ]
}

/// Dense matrices of each symmetry, and a sparse one.
pub fn mtx() -> Vec<Vec<u8>> {
    [
        "%%MatrixMarket matrix array real general\n% a comment\n\n2 3\n1\n4\n2\n\n5\n3e0\n-6.5\n",
        "%%MatrixMarket matrix array integer symmetric\n3 3\n1\n2\n3\n4\n5\n6",
        "%%MatrixMarket matrix array real skew-symmetric\n3 3\n1 2\n3",
        "%%MatrixMarket matrix array double general\n0 7\n",
        "%%MatrixMarket matrix array real general\n1 2\nnan\n-1e999",
        "%%MatrixMarket matrix coordinate real general\n2 2 1\n1 1 1",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into_iter()
    .chain([many("%%MatrixMarket matrix array real symmetric\n60 60\n", "0\n", 1830, "")])
    .chain([
        many("%%MatrixMarket", " m", 1000, "\n"),
        many("%%MatrixMarket matrix array real general\n", "1 ", 1000, ""),
    ])
    .collect()
}

/// A triangle with a texture, a sphere, and every light.
fn small() -> Scene {
    let (direction, position) = ([0.0, -1.0, 0.0], [0.0, 2.0, 1.0]);
    Scene {
        positions: vec![[0.0; 3], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
        normals: vec![[0.0, 0.0, 1.0]; 3],
        uvs: vec![[0.0, 0.0], [1.0, 0.0], [0.25, 1.0]],
        triangles: vec![Triangle { vertices: [0, 1, 2], material: 0 }],
        spheres: vec![Sphere { center: [0.0, 0.0, -1.0], radius: 0.5, material: 1 }],
        surfaces: Surfaces::Physical(vec![
            Material { base_color_texture: 0, ..Material::default() },
            Material { emission: [2.0, 1.0, 0.5], metallic: 0.5, roughness: 0.1, ..Material::default() },
        ]),
        textures: vec![Texture { width: 2, height: 1, wrap: [Wrap::Mirror, Wrap::Clamp], texels: vec![[9; 4]; 2] }],
        lights: vec![
            Light::Point { position, intensity: [1.0; 3] },
            Light::Spot { position, direction, intensity: [1.0; 3], cos_inner: 0.9, cos_outer: 0.5 },
            Light::Directional { direction, irradiance: [0.5; 3] },
        ],
        environment: [0.1, 0.2, 0.3],
    }
}

/// Scenes of both kinds.
pub fn scenes() -> Vec<Vec<u8>> {
    let phong = Scene {
        normals: Vec::new(),
        uvs: Vec::new(),
        surfaces: Surfaces::Phong(vec![PhongMaterial::default(); 2]),
        textures: Vec::new(),
        environment: [0.0; 3],
        ..small()
    };
    vec![small().encode(), phong.encode()]
}

/// A triangle with everything that a vertex can have, in 104 bytes of chunk.
const TRIANGLE: &str = r#"{"asset":{"version":"2.0"},"scene":0,"scenes":[{"nodes":[0]}],
"nodes":[{"mesh":0,"camera":0,"scale":[1,2,3],"children":[1]},{"rotation":[0,0,0,1],"translation":[1,2,3]}],
"meshes":[{"primitives":[{"attributes":{"POSITION":0,"NORMAL":2,"TEXCOORD_0":3},"indices":1,"material":0,"mode":4}]}],
"materials":[{"doubleSided":true,"emissiveFactor":[1,0,0],"pbrMetallicRoughness":{"roughnessFactor":0.5}}],
"cameras":[{"type":"perspective","perspective":{"yfov":1,"znear":1}}],
"accessors":[{"bufferView":0,"componentType":5126,"type":"VEC3","count":3,"min":[0,0,0]},
{"bufferView":1,"componentType":5123,"type":"SCALAR","count":3},
{"bufferView":2,"componentType":5126,"type":"VEC3","count":3},
{"bufferView":3,"componentType":5126,"type":"VEC2","count":3}],
"bufferViews":[{"buffer":0,"byteLength":36},{"buffer":0,"byteOffset":36,"byteLength":6},
{"buffer":0,"byteOffset":44,"byteLength":36},{"buffer":0,"byteOffset":80,"byteLength":24}],
"buffers":[{"byteLength":104}]}"#;

fn vertices() -> Vec<u8> {
    let floats = |floats: &[f32]| floats.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let positions = floats(&[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let normals = floats(&[0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0]);
    [positions, vec![0, 0, 1, 0, 2, 0, 0, 0], normals, floats(&[0.0, 0.0, 1.0, 0.0, 0.25, 1.0])].concat()
}

/// A .glb whose triangle has these bytes as its image.
pub fn textured(image: &[u8]) -> Vec<u8> {
    let end = 104 + image.len();
    let changes = [
        ("\"doubleSided\":true,", "".to_owned()),
        ("\"roughnessFactor\":0.5", "\"baseColorTexture\":{\"index\":0}".to_owned()),
        ("\"cameras\":", "\"textures\":[{\"source\":0}],\"images\":[{\"bufferView\":4}],\"cameras\":".to_owned()),
        (
            "\"byteLength\":24}]",
            format!("\"byteLength\":24}},{{\"buffer\":0,\"byteOffset\":104,\"byteLength\":{}}}]", image.len()),
        ),
        ("{\"byteLength\":104}", format!("{{\"byteLength\":{end}}}")),
    ];
    let json = changes.iter().fold(TRIANGLE.to_owned(), |json, (from, to)| json.replace(from, to));
    container(json.as_bytes(), &[&vertices(), image].concat())
}

/// Files whole, files as JSON and chunk, and images: [`super::scenes::glb`].
pub fn glb() -> Vec<Vec<u8>> {
    let pixels = DynamicImage::new_rgb8(5, 3);
    let written = |image: &DynamicImage, format: ImageFormat| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).expect("an image in memory");
        bytes.into_inner()
    };
    let grey = written(&pixels.to_luma16().into(), ImageFormat::Png);
    let images = [written(&pixels, ImageFormat::Png), grey, written(&pixels, ImageFormat::Jpeg)];
    let whole = [&[0][..], &container(TRIANGLE.as_bytes(), &vertices())].concat();
    let apart = [&[1][..], &(TRIANGLE.len() as u16).to_le_bytes(), TRIANGLE.as_bytes(), &vertices()].concat();
    let objects = |kind: &str| {
        let json = many(&format!("{{\"asset\":{{\"version\":\"2.0\"}},\"{kind}\":["), "{},", 1200, "{}]}");
        [&[1][..], &(json.len() as u16).to_le_bytes(), &json].concat()
    };
    [whole, apart, objects("materials"), objects("nodes")]
        .into_iter()
        .chain(images.map(|image| [&[2][..], &image].concat()))
        .collect()
}

/// Faces of every form, and a library behind a byte 0.
pub fn obj() -> Vec<Vec<u8>> {
    let names = |piece: fn(u8) -> String| (0..150).map(piece).collect::<String>();
    let materials = [names(|name| format!("usemtl {name}\n")), names(|name| format!("newmtl {name}\n"))];
    let materials = materials.join("mtllib m.mtl\n\0").into_bytes();
    [
        "mtllib m.mtl\nv 0 0 0\nv 1 0 0 \\\n 1\nv 0 1 0\nvt 0 0\nvn 0 0 1\nusemtl red\nf 1 2 3\nf 1/1 2/1 3/1\n\
         usemtl none\nf -3//-1 -2//1 3//1 1//1\ns 1\n\0newmtl red\nKd 1 0 0\nKe 0 .5 0\nKs .04 .04 .04\nNs 10\nPr .5\n",
        "o a\ng b # c\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1/1/1 2/1/1 3/1/1\n",
        "v 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl t\nf 1 2 3\nmtllib m.mtl\n\0newmtl t\nmap_Kd -clamp on scene.obj\nd 0.5\nillum 3\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into_iter()
    .chain([many("v 0 0 0\n", "f 1 1 1 1 1 1 1 1 1\n", 200, ""), materials])
    .collect()
}

/// All words of the format.
pub fn simple() -> Vec<Vec<u8>> {
    [
        "// une scene\nmateriau .1 .2 .3  .4 .5 .6 // c\n .7 .8 .9 10\nsphere 1 2 3 4\n\
         polygone 4  0 0 0  1 0 0  1 1 0  0 1 0\nsource 1 2 3 .5 .6 .7",
        "polygone 3 0 0 0 1 0 0 0 1 0 sphere 0 0 -1 1e30",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into_iter()
    .chain([many("polygone 600 ", "0 ", 1800, ""), many("", "polygone 3 0 0 0 0 0 0 0 0 0 ", 130, "")])
    .collect()
}
