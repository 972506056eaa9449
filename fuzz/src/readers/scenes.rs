//! Scenes: as they travel, and in the files they are made from.

use std::path::PathBuf;

use bytes::Bytes;
use rabbitry::task::{Blob, Format, Handler, Task, Watch};
use rabbitry::tasks::render::load::{self, LoadError, Loaded};
use rabbitry::tasks::render::scene::Scene;
use rabbitry::tasks::render::trace::{Tile, View};
use rabbitry::tasks::render::{EncodedScene, RenderHandler, TileTask};
use tempfile::TempDir;

use super::input::Input;
use super::memory::{Bound, check, measured, within};
use super::says_enough;

/// Sections are copied; lights twice.
const BLOB: Bound = Bound { per_byte: 3, beside: 1024 };

/// What a worker reserves for a scene that it makes ready.
const READY: Bound = Bound { per_byte: 20, beside: 1 << 20 };

/// Words become numbers: `0 0 0` a vertex of 12 bytes and a triangle of 16, in vectors that grow by doubling.
const SIMPLE: Bound = Bound { per_byte: 16, beside: 1024 };

/// A corner of a face is text again, and then indices, and then a vertex of its own; a material of nine bytes has a name, a
/// place in three tables, and numbers.
const OBJ: Bound = Bound { per_byte: 80, beside: 16 << 10 };

/// An object of JSON of three bytes becomes a struct of up to 300, in a vector that grows by doubling. (The reader takes no
/// more than 16,384 so small, and has 24 bytes of text for each above that.)
const GLB: Bound = Bound { per_byte: 300, beside: 64 << 10 };

/// A scene as workers are sent it; one that is right is made ready and looked at.
pub fn blob(bytes: &[u8]) {
    let scene = match within(BLOB, bytes.len(), || Scene::decode(bytes)) {
        Ok(scene) => scene,
        Err(reason) => return says_enough(&reason),
    };
    assert_eq!(scene.encode(), bytes, "what was read is written as it was");
    render(&scene, bytes);
}

/// A worker's way with a scene: 2 x 2 pixels, a sample each.
fn render(scene: &Scene, bytes: &[u8]) {
    let payload = Bytes::copy_from_slice(bytes);
    let ready = within(READY, bytes.len(), || RenderHandler.prepare(payload)).expect("a scene that was checked");
    let camera = load::framing(scene);
    let view = View { camera, width: 2, height: 2, seed: 1, depth: 4, roulette: true };
    let tile = Tile { x: 0, y: 0, width: 2, height: 2 };
    let task = TileTask { scene: EncodedScene::new(scene), view, tile, samples: 0..1 };
    // A scene as large as numbers go has no camera that sees it.
    let Ok(encoded) = task.encode(Format::Binary) else { return };
    let params = encoded.blob.params;
    let blob = Blob { format: Format::Binary, params: params.clone(), payload: Vec::new() };
    let answer = RenderHandler.run_on(&ready, blob, 1, &Watch::default()).expect("a tile");
    TileTask::decode_answer(&params, answer).expect("numbers that are finite and not below 0");
}

/// A .glb: as it is, put together from JSON and bytes, or one image in a scene that is right.
pub fn glb(bytes: &[u8]) {
    let mut input = Input(bytes);
    let file = match input.byte() % 3 {
        0 => input.0.to_vec(),
        1 => {
            let len = input.u16();
            container(input.take(len.into()), input.0)
        }
        _ => super::seeds::textured(input.0),
    };
    // Without its head a file is simple text.
    let (bound, is_glb) = (if file.starts_with(b"glTF") { GLB } else { SIMPLE }, file.starts_with(b"glTF"));
    let (loaded, held) = measured(|| load::bytes(&file));
    let texels = |loaded: &Loaded| loaded.scene.textures.iter().map(|texture| texture.texels.len()).sum();
    let texels: usize = loaded.as_ref().map_or(0, texels);
    let beside = if is_glb { texels * 16 + unproved(&file) } else { 0 };
    check(Bound { beside: bound.beside + beside, ..bound }, file.len(), held);
    whole(loaded);
}

/// Nothing but a claim, so far: a byte of PNG may unfold to 1032, of which each may be eight texels of a byte.
fn unproved(file: &[u8]) -> usize {
    let holds = |mark: &[u8]| file.windows(mark.len()).any(|part| part == mark);
    if holds(b"IHDR") || holds(b"\xff\xd8\xff") || holds(b"base64") { file.len() * 1032 * 8 } else { 0 }
}

/// A .glb of JSON and a binary chunk.
pub fn container(json: &[u8], chunk: &[u8]) -> Vec<u8> {
    let part = |kind: &[u8], bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], kind, bytes].concat();
    let body = [part(b"JSON", json), part(b"BIN\0", chunk)].concat();
    [b"glTF\x02\0\0\0".as_slice(), &(body.len() as u32 + 12).to_le_bytes(), &body].concat()
}

/// The text format `simple.txt`.
pub fn simple(text: &[u8]) {
    if !text.starts_with(b"glTF") {
        whole(within(SIMPLE, text.len(), || load::bytes(text)));
    }
}

/// An OBJ, and behind a byte 0 the library `m.mtl`.
pub fn obj(bytes: &[u8]) {
    thread_local! {
        static FOLDER: TempDir = tempfile::tempdir_in(shared_memory()).expect("a folder for the files");
    }
    let (obj, mtl) = match bytes.iter().position(|byte| *byte == 0) {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &b""[..]),
    };
    FOLDER.with(|folder| {
        let path = folder.path().join("scene.obj");
        std::fs::write(&path, obj).expect("written");
        std::fs::write(folder.path().join("m.mtl"), mtl).expect("written");
        whole(within(OBJ, bytes.len(), || load::file(&path)));
    });
}

/// Files that are written this often had better not reach a disk.
fn shared_memory() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { memory } else { std::env::temp_dir() }
}

/// What is loaded is a scene that travels, with a camera that sees something.
fn whole(loaded: Result<Loaded, LoadError>) {
    let Loaded { scene, cameras, warnings } = match loaded {
        Ok(loaded) => loaded,
        Err(error) => return says_enough(&error.to_string()),
    };
    let again = Scene::decode(&scene.encode()).expect("what was loaded can be sent");
    assert_eq!(again.encode(), scene.encode());
    warnings.iter().for_each(|warning| says_enough(warning));
    for camera in cameras.into_iter().chain([load::framing(&scene)]) {
        assert!(camera.position.iter().chain(camera.axes.iter().flatten()).all(|x| x.is_finite()), "{camera:?}");
    }
}
