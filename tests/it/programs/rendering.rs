//! `boss render` as people use it: the same picture from any pool, through kills and interruptions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rabbitry::task::Watch;
use serde_json::Value;

use super::{BOSS, Process, boss, program, until_busy, watcher};
use crate::pool::{Place, one_slot, soon};
use crate::rabbitmq::vhost;
use crate::render::Odd;

/// A scene of the repository.
fn scene(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scenes").join(name).display().to_string()
}

/// Some seconds of one core.
const LOOK: &[&str] = &["--size", "200x150", "--spp", "40", "--tile", "32", "--json"];

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Folder(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The arguments of a picture of the room into this file.
    fn room(&self, name: &str, more: &[&str]) -> Vec<String> {
        let output = self.path(name).display().to_string();
        let own = ["render", &scene("room.gltf"), "-o", &output].map(str::to_owned);
        own.into_iter().chain([LOOK, more].concat().into_iter().map(str::to_owned)).collect()
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("a picture")
    }
}

async fn render(arguments: &[String]) -> super::Ended {
    boss(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await
}

fn report(ended: &super::Ended) -> Value {
    assert_eq!(ended.code, Some(0), "{}{}", ended.out, ended.err);
    serde_json::from_str(&ended.out).expect("one JSON object")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_and_come_late_change_no_byte() {
    let (place, folder) = (vhost().await, Folder::new());
    let alone = report(&render(&folder.room("alone.png", &["--slots", "1"])).await);
    assert_eq!((&alone["complete"], &alone["notes"]), (&true.into(), &serde_json::json!([])));
    let watcher = watcher(&place.url).await;
    let mut first = Process::worker(&place.url, &["--slots", "1"]).await;
    let arguments = folder.room("pool.png", &["--broker", &place.url]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut job = program(BOSS, &arguments);
    let job = tokio::spawn(async move { super::Ended::from(job.output().await.expect("the boss starts")) });
    until_busy(&watcher, first.pid()).await;
    first.child.start_kill().expect("killed");
    assert_eq!(first.code().await, None, "ended by a signal");
    let _late = [Process::worker(&place.url, &["--slots", "1"]).await, Process::worker(&place.url, &[]).await];
    let pooled = report(&soon("the picture", job).await.expect("no panic"));
    assert_eq!(pooled["doubles_different"], 0);
    assert!(folder.bytes("pool.png") == folder.bytes("alone.png"), "another picture: {pooled}");
    watcher.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ctrl_c_keeps_what_is_done_and_resume_goes_on_with_it() {
    let (place, folder) = (Place::rabbitmq().await, Folder::new());
    report(&render(&folder.room("whole.png", &[])).await);
    // Makes two pieces, and stands still in the third until it is called off.
    let begun = AtomicUsize::new(0);
    let before = move |_: &[u8], watch: &Watch| {
        let stands = begun.fetch_add(1, Ordering::Relaxed) >= 2;
        while stands && watch.check().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        watch.check()
    };
    let _worker = place.worker(Arc::new(Odd { before, change: |blob| blob }), one_slot());
    // The preview tells when some of it is done.
    let arguments = folder.room("half.png", &["--preview", "--broker", place.url()]);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut half = Process::start(program(BOSS, &arguments));
    let preview = folder.path("half.png");
    soon("a preview", async {
        while !preview.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    half.interrupt();
    assert_eq!(half.code().await, Some(130), "{}", half.said());
    assert!(half.said().contains("half.png.partial") && half.said().contains("--resume"), "{}", half.said());
    assert!(folder.path("half.png.partial").exists());
    let fresh = report(&render(&folder.room("other.png", &["--resume"])).await);
    assert!(fresh["notes"][0].as_str().is_some_and(|note| note.contains("begins anew")), "{fresh}");
    let resumed = report(&render(&folder.room("half.png", &["--resume"])).await);
    assert!(resumed["pieces_resumed"].as_u64() > Some(0), "{resumed}");
    assert!(folder.bytes("half.png") == folder.bytes("whole.png"), "another picture: {resumed}");
    assert!(!folder.path("half.png.partial").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_rendered_is_said_before_anything_is_begun() {
    let folder = Folder::new();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path(name), bytes).expect("written");
        folder.path(name).display().to_string()
    };
    let picture = folder.path("a.png").display().to_string();
    let (room, spheres) = (scene("room.gltf"), scene("spheres.txt"));
    let short = file("short.glb", b"glTF\x02\0\0\0\xff\0\0\0");
    let wrong = file("wrong.txt", b"sphere 0 0 0 1\nsphere 0 0 zero 1\n");
    let nothing = file("nothing.txt", b"source 1 1 1 1 1 1\n");
    for (arguments, reason) in [
        (vec!["no/such.glb", "-o", &picture], "no/such.glb"),
        (vec![&short, "-o", &picture], "short.glb"),
        (vec![&wrong, "-o", &picture], "line 2"),
        (vec![&nothing, "-o", &picture], "no geometry"),
        (vec![&picture, "-o", &picture], ".gltf, .glb, .obj"),
        (vec![&room, "-o", "a.jpg"], "use .png"),
        (vec![&room, "-o", "no/such/a.png"], "folder does not exist"),
        (vec![&room, "-o", &picture, "--camera", "1"], "1 cameras"),
        (vec![&room, "-o", &picture, "--size", "0x5"], "0x5"),
        (vec![&room, "-o", &picture, "--size", "5"], "1280x720"),
        (vec![&room, "-o", &picture, "--spp", "0"], "samples"),
        (vec![&room, "-o", &picture, "--tile", "0"], "tiles of 0"),
        (vec![&room, "-o", &picture, "--depth", "0"], "bounces"),
        (vec![&spheres, "-o", &picture, "--sky", "dark"], "R,G,B"),
    ] {
        let ended = boss(&[&["render"], &arguments[..]].concat()).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(reason), "{arguments:?}: {}", ended.err);
    }
    assert!(!folder.path("a.png").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pictures_are_written_in_both_formats_and_reported_in_words() {
    let folder = Folder::new();
    for name in ["a.png", "a.exr"] {
        let output = folder.path(name).display().to_string();
        let ended = boss(&["render", &scene("spheres.txt"), "-o", &output, "--size", "40x30", "--spp", "4"]).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{}", ended.out);
        assert!(ended.out.starts_with("40x30, 4 spp in ") && ended.out.contains(" on 1 worker\n"), "{}", ended.out);
        assert!(ended.out.contains(": 100 % (1 pieces)"), "{}", ended.out);
    }
    assert!(folder.bytes("a.png").starts_with(b"\x89PNG") && folder.bytes("a.exr").starts_with(b"\x76\x2f\x31\x01"));
}
