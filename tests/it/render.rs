//! Pictures made on pools: always the same bits, whoever makes them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rabbitry::boss::Submit;
use rabbitry::render::{Render, Report, Request};
use rabbitry::task::{Blob, ContentHash, Format, Handler, Kind, Plan, Prepared, TaskError, Watch};
use rabbitry::tasks::render::scene::{Camera, Lens, Light, Material, Scene, Sphere, Surfaces, Triangle};
use rabbitry::tasks::render::trace::View;
use rabbitry::tasks::render::{EncodedScene, RenderHandler};
use rabbitry::worker::Options;
use tokio_util::sync::CancellationToken;

use crate::pool::{Place, on_both, one_slot, soon};

/// A floor with two spheres, one of them a mirror, under a lamp and a point of light.
fn scene() -> Scene {
    let floor = [[-4.0, 0.0, -4.0], [4.0, 0.0, -4.0], [4.0, 0.0, 4.0], [-4.0, 0.0, 4.0]];
    let lamp = [[-1.0, 3.0, -1.0], [1.0, 3.0, -1.0], [1.0, 3.0, 1.0], [-1.0, 3.0, 1.0]];
    let triangle = |vertices, material| Triangle { vertices, material };
    Scene {
        positions: [floor, lamp].concat(),
        triangles: vec![triangle([0, 2, 1], 0), triangle([0, 3, 2], 0), triangle([4, 5, 6], 1), triangle([4, 6, 7], 1)],
        spheres: vec![
            Sphere { center: [-0.7, 0.6, 0.0], radius: 0.6, material: 2 },
            Sphere { center: [0.8, 0.5, 0.3], radius: 0.5, material: 0 },
        ],
        surfaces: Surfaces::Physical(vec![
            Material { base_color: [0.7, 0.6, 0.5], ..Material::default() },
            Material { emission: [6.0, 5.0, 4.0], ..Material::default() },
            Material { metallic: 1.0, roughness: 0.2, ..Material::default() },
        ]),
        lights: vec![Light::Point { position: [2.0, 1.0, 2.0], intensity: [1.0, 2.0, 3.0] }],
        environment: [0.1, 0.1, 0.2],
        ..Scene::default()
    }
}

fn request(tile: u32) -> Request {
    let camera = Camera {
        position: [0.0, 1.0, 4.0],
        axes: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
        lens: Lens::Perspective { tan_half_y: 0.4 },
    };
    let view = View { camera, width: 61, height: 43, seed: 5, depth: 5, roulette: true };
    Request { scene: EncodedScene::new(&scene()), view, samples: 20, tile }
}

fn hash(render: &Render) -> ContentHash {
    ContentHash::of(bytemuck::cast_slice(&render.means()))
}

/// Makes a picture, and gives what there was to be said.
async fn make(on: &Place, render: &Render) -> Vec<String> {
    let said = std::sync::Mutex::new(Vec::new());
    let boss = on.boss().await;
    let (stop, say) = (CancellationToken::new(), |text: &str| said.lock().expect("no panic").push(text.to_owned()));
    soon("the picture", render.run(&boss, Submit::default(), &stop, &say)).await.expect("no tile fails");
    boss.close().await;
    assert!(render.is_complete());
    said.into_inner().expect("no panic")
}

fn worker_options(slots: usize) -> Options {
    Options { slots, prefetch: slots as u16 + 1, ..one_slot() }
}

/// What everybody must come to.
async fn right() -> ContentHash {
    let on = Place::embedded();
    let _worker = on.worker(Arc::new(RenderHandler), worker_options(1));
    let render = Render::new(request(256)).expect("a picture");
    assert_eq!(make(&on, &render).await, [""; 0]);
    hash(&render)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_tiles_and_any_number_of_threads_are_one_picture() {
    let right = right().await;
    for (tile, slots) in [(256, 2), (64, 2), (37, 1), (16, 2), (1, 2)] {
        let on = Place::embedded();
        let _worker = on.worker(Arc::new(RenderHandler), worker_options(slots));
        let render = Render::new(request(tile)).expect("a picture");
        make(&on, &render).await;
        assert_eq!(hash(&render), right, "tiles of {tile} on {slots} threads");
    }
}

on_both!(
    any_number_of_workers_is_one_picture,
    a_worker_that_stands_still_is_overtaken,
    workers_that_compute_other_bits_are_noticed,
    an_interrupted_picture_goes_on,
    a_tile_that_fails_is_named,
    a_tile_that_fails_late_ends_the_picture_too,
);

async fn any_number_of_workers_is_one_picture(on: Place) {
    let right = right().await;
    let mut workers = Vec::new();
    for count in 1..=4 {
        workers.push(on.worker(Arc::new(RenderHandler), one_slot()));
        let render = Render::new(request(8)).expect("a picture");
        assert_eq!(make(&on, &render).await, [""; 0]);
        assert_eq!(hash(&render), right, "{count} workers");
        let Report { workers, pieces, pieces_done, rays, .. } = render.report();
        assert!(workers.len() <= count && rays > 100_000, "{workers:?} {rays}");
        assert_eq!(workers.iter().map(|share| share.pieces).sum::<u64>() as usize, pieces);
        assert_eq!(pieces_done, pieces);
    }
}

/// Renders as the real one, and does something else first.
pub(crate) struct Odd<F> {
    pub(crate) before: F,
    pub(crate) change: fn(Blob) -> Blob,
}

impl<F: Fn(&[u8], &Watch) -> Result<(), TaskError> + Send + Sync + 'static> Handler for Odd<F> {
    fn kind(&self) -> Kind {
        RenderHandler.kind()
    }

    fn gflops(&self) -> f64 {
        0.0
    }

    fn plan(&self, format: Format, params: &[u8], payload_bytes: u64, threads: usize) -> Result<Plan, TaskError> {
        RenderHandler.plan(format, params, payload_bytes, threads)
    }

    fn run(&self, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError> {
        RenderHandler.run(task, threads, watch)
    }

    fn prepare(&self, payload: Bytes) -> Result<Prepared, TaskError> {
        RenderHandler.prepare(payload)
    }

    fn run_on(&self, shared: &Prepared, task: Blob, threads: usize, watch: &Watch) -> Result<Blob, TaskError> {
        (self.before)(&task.params, watch)?;
        RenderHandler.run_on(shared, task, threads, watch).map(self.change)
    }
}

async fn a_worker_that_stands_still_is_overtaken(on: Place) {
    // Its first tile takes until somebody calls it off.
    let stands = |_: &[u8], watch: &Watch| {
        while watch.check().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        watch.check()
    };
    let _still =
        on.worker(Arc::new(Odd { before: stands, change: |blob| blob }), Options { prefetch: 1, ..one_slot() });
    let _quick = on.worker(Arc::new(RenderHandler), one_slot());
    let render = Render::new(request(16)).expect("a picture");
    make(&on, &render).await;
    assert_eq!(hash(&render), right().await);
}

async fn workers_that_compute_other_bits_are_noticed(on: Place) {
    let turn = Arc::new(AtomicUsize::new(0));
    // They take turns, so that both have a share.
    let take_turns = |own: usize| {
        let turn = turn.clone();
        move |_: &[u8], watch: &Watch| {
            while turn.load(Ordering::Acquire) < 2 && turn.load(Ordering::Acquire) != own {
                watch.check()?;
                std::thread::yield_now();
            }
            turn.fetch_add(1, Ordering::AcqRel);
            Ok(())
        }
    };
    let other = |mut blob: Blob| {
        blob.params[0] ^= 1;
        blob
    };
    let _workers = [
        on.worker(Arc::new(Odd { before: take_turns(0), change: |blob| blob }), one_slot()),
        on.worker(Arc::new(Odd { before: take_turns(1), change: other }), one_slot()),
    ];
    let said = make(&on, &Render::new(request(16)).expect("a picture")).await;
    assert!(said.len() == 1 && said[0].contains("computes other bits than"), "{said:?}");
}

async fn an_interrupted_picture_goes_on(on: Place) {
    let stop = CancellationToken::new();
    let (count, enough) = (AtomicUsize::new(0), stop.clone());
    let stops = move |_: &[u8], _: &Watch| {
        if count.fetch_add(1, Ordering::Relaxed) == 5 {
            enough.cancel();
        }
        Ok(())
    };
    let half = Render::new(request(16)).expect("a picture");
    {
        let _worker = on.worker(Arc::new(Odd { before: stops, change: |blob| blob }), one_slot());
        let boss = on.boss().await;
        soon("the stop", half.run(&boss, Submit::default(), &stop, &|_| {})).await.expect("no tile fails");
        boss.close().await;
    }
    let done = half.progress().pieces;
    assert!(done > 0 && !half.is_complete(), "{done}");
    let _worker = on.worker(Arc::new(RenderHandler), one_slot());
    let whole = Render::new(request(16)).expect("a picture");
    whole.resume(&half.partial()).expect("the same picture");
    assert_eq!(whole.progress(), half.progress());
    make(&on, &whole).await;
    assert_eq!(hash(&whole), right().await);
    let Report { pieces, pieces_resumed, workers, .. } = whole.report();
    assert!(pieces_resumed > 0);
    assert_eq!(workers[0].pieces as usize, pieces - pieces_resumed);
    let other = Render::new(request(8)).expect("a picture");
    assert_eq!(other.resume(&half.partial()).unwrap_err(), "it was made with tile 16, and this is tile 8");
}

async fn a_tile_that_fails_is_named(on: Place) {
    let boss = on.boss().await;
    let short = |mut blob: Blob| {
        blob.payload = vec![Bytes::from_static(b"1234")];
        blob
    };
    let _worker = on.worker(Arc::new(Odd { before: |_: &[u8], _: &Watch| Ok(()), change: short }), one_slot());
    let render = Render::new(request(64)).expect("a picture");
    let failed = soon("the end", render.run(&boss, Submit::default(), &CancellationToken::new(), &|_| {})).await;
    assert_eq!(failed.unwrap_err().to_string(), "tile 0 can't be rendered: a tile of 2623 pixels came back as 4 bytes");
}

async fn a_tile_that_fails_late_ends_the_picture_too(on: Place) {
    // Long enough to be asked for twice; the double fails as well.
    let fails = |params: &[u8], watch: &Watch| {
        let is_right = params[40..48] != [0; 8];
        let end = Instant::now() + Duration::from_millis(1500);
        while !is_right && Instant::now() < end {
            watch.check()?;
            std::thread::yield_now();
        }
        if is_right { Ok(()) } else { Err(TaskError::Invalid("no luck".into())) }
    };
    let handler = Arc::new(Odd { before: fails, change: |blob| blob });
    let _workers = [on.worker(handler.clone(), one_slot()), on.worker(handler, one_slot())];
    let (boss, render) = (on.boss().await, Render::new(request(16)).expect("a picture"));
    let failed = soon("the end", render.run(&boss, Submit::default(), &CancellationToken::new(), &|_| {})).await;
    assert_eq!(failed.unwrap_err().to_string(), "tile 0 can't be rendered: no luck");
}
