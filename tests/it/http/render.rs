//! Pictures over HTTP: those that the pool makes for everybody, seen while they come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rabbitry::boss::Submit;
use rabbitry::files::picture;
use rabbitry::render::Render;
use rabbitry::render::setting::{Setting, Size};
use rabbitry::render::tone::{Curve, Tone};
use rabbitry::task::{Blob, Handler, TaskError, Watch};
use rabbitry::tasks::render::{RenderHandler, load};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Site;
use super::client::{Ask, Reply};
use super::waiting::Events;
use crate::pool::{Place, on_both, soon};
use crate::render::Odd;

on_both!(
    a_picture_by_http_is_the_one_that_render_makes,
    what_is_there_is_seen_while_it_comes,
    a_cancelled_picture_frees_the_worker,
    a_tile_that_fails_fails_the_picture,
);

/// A lamp over two spheres.
const TEXT: &str = "materiau 0.1 0.1 0.1 0.7 0.5 0.3 0.2 0.2 0.2 10 // brass\nsphere -0.4 0 0 0.5\n\
                    sphere 0.5 0 -0.3 0.4\nsource 1 2 3 1 1 1\n";

/// A triangle, which nothing lights, and no camera.
fn glb() -> Vec<u8> {
    let corners: [f32; 9] = [-1.0, -1.0, 0.0, 1.0, -1.0, 0.0, 0.0, 1.0, 0.0];
    let bytes: Vec<u8> = corners.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut text = json!({
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "scene": 0,
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3",
                       "min": [-1.0, -1.0, 0.0], "max": [1.0, 1.0, 0.0]}],
        "bufferViews": [{"buffer": 0, "byteLength": 36}],
        "buffers": [{"byteLength": 36}],
        "animations": [],
        "extensionsUsed": ["EXT_unheard_of"],
    })
    .to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(4) - text.len()));
    let length = |bytes: usize| u32::try_from(bytes).expect("short").to_le_bytes();
    let all = 12 + 8 + text.len() + 8 + bytes.len();
    [
        b"glTF",
        &2u32.to_le_bytes()[..],
        &length(all),
        &length(text.len()),
        b"JSON",
        text.as_bytes(),
        &length(bytes.len()),
        b"BIN\0",
        &bytes,
    ]
    .concat()
}

/// Two tiles, one beside the other, of one pass; large enough to travel alone each.
const SETTING: Setting =
    Setting { size: Size { width: 128, height: 64 }, samples: 4, seed: 7, tile: 16, depth: 3, camera: 0, sky: None };

const CALL: &str = "/v1/render?size=128x64&spp=4&seed=7&tile=64&depth=3";

async fn post(site: &Site, call: &str, content_type: &str, body: impl Into<Bytes>) -> Reply {
    site.ask(Ask::post(call, content_type, body)).await
}

/// The URL of a picture that was taken.
#[track_caller]
fn accepted(reply: &Reply) -> String {
    let view = reply.is(202);
    assert_eq!(reply.header("location"), format!("/v1/render/{}", view["render"].as_str().expect("an id")));
    reply.header("location").to_owned()
}

async fn submit(site: &Site) -> String {
    accepted(&post(site, CALL, "text/plain", TEXT).await)
}

/// A worker that renders.
async fn renderer(on: Place) -> Site {
    Site::with(on, vec![Arc::new(RenderHandler)], |_| {}).await
}

/// Renders a tile for each turn that it is given.
struct Gate {
    turns: Arc<AtomicUsize>,
    heard: mpsc::UnboundedReceiver<&'static str>,
}

fn gate() -> (Arc<dyn Handler>, Gate) {
    let turns = Arc::new(AtomicUsize::new(0));
    let (tell, heard) = mpsc::unbounded_channel();
    let take = turns.clone();
    let before = move |_: &[u8], watch: &Watch| {
        // A test that has ended hears nothing.
        let _ = tell.send("begun");
        let turn = |left: usize| left.checked_sub(1);
        while take.fetch_update(Ordering::AcqRel, Ordering::Acquire, turn).is_err() {
            if let Err(error) = watch.check() {
                let _ = tell.send("called off");
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok::<_, TaskError>(())
    };
    (Arc::new(Odd { before, change: |blob| blob }), Gate { turns, heard })
}

impl Gate {
    fn give(&self, turns: usize) {
        self.turns.fetch_add(turns, Ordering::AcqRel);
    }

    async fn hears(&mut self) -> &'static str {
        soon("word of the worker", self.heard.recv()).await.expect("the handler is alive")
    }
}

async fn gated(on: Place, memory_bytes: u64) -> (Site, Gate) {
    let (handler, gate) = gate();
    (Site::with(on, vec![handler], |options| options.memory_bytes = memory_bytes).await, gate)
}

/// Looks at a picture until it is so.
async fn until(site: &Site, url: &str, so: impl Fn(&Value) -> bool) -> Value {
    soon(url, async {
        loop {
            let view = site.get(url).await.is(200);
            if so(&view) {
                return view;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

/// The picture without HTTP.
async fn direct(site: &Site, scene: &[u8], tone: Tone) -> Vec<u8> {
    let (request, _) = SETTING.request(load::bytes(scene).expect("a scene")).expect("a picture");
    let render = Render::new(request).expect("a picture");
    let boss = site.place.boss().await;
    let never = CancellationToken::new();
    soon("the picture", render.run(&boss, Submit::default(), &never, &|_| {})).await.expect("no tile fails");
    boss.close().await;
    picture::png(128, 64, &tone.bytes(&render.means())).expect("a picture")
}

async fn a_picture_by_http_is_the_one_that_render_makes(on: Place) {
    let site = renderer(on).await;
    let scenes = [("text/plain; charset=utf-8", TEXT.as_bytes().to_vec()), ("model/gltf-binary", glb())];
    for (content_type, scene) in scenes {
        let url = accepted(&post(&site, CALL, content_type, scene.clone()).await);
        let view = site.get(format!("{url}?wait=60")).await.is(200);
        assert_eq!((&view["state"], &view["percent"]), (&json!("done"), &json!(100.0)), "{view}");
        let report = &view["report"];
        assert_eq!((&report["pieces_done"], &report["complete"]), (&json!(2), &json!(true)), "{view}");
        assert_eq!(report["workers"][0]["pieces"], 2, "{view}");
        assert!(view["finished"].is_string() && view.get("error").is_none(), "{view}");
        let (said, is_dark) = (view["notes"].to_string(), content_type.starts_with("model"));
        assert!(said.contains("EXT_unheard_of") == is_dark && said.contains("white sky") == is_dark, "{said}");
        let film = Tone { exposure: -0.5, curve: Curve::Filmic };
        for (query, tone) in [("", Tone::default()), ("?exposure=-0.5&tone=filmic", film)] {
            let png = site.get(format!("{url}/image.png{query}")).await;
            assert_eq!((png.status.as_u16(), png.header("content-type")), (200, "image/png"));
            assert_eq!(png.header("cache-control"), "", "it is what it will be");
            assert!(png.body == direct(&site, &scene, tone).await, "{content_type} {query}");
        }
        site.ask(Ask::delete(&url)).await.is(200);
        site.get(&url).await.problem(404, "not_found");
    }
    site.until_idle().await;
    let metrics = site.get("/metrics").await.text();
    assert!(metrics.contains("tasks_ended_total{kind=\"render\",outcome=\"ok\"} 2"), "{metrics}");
}

/// Whether the left and the right half of a picture have light.
fn halves(png: &[u8]) -> (bool, bool) {
    let picture = image::load_from_memory(png).expect("a PNG").into_rgb8();
    assert_eq!(picture.dimensions(), (128, 64));
    let is_lit = |left: bool| picture.enumerate_pixels().any(|(x, _, pixel)| (x < 64) == left && pixel.0 != [0; 3]);
    (is_lit(true), is_lit(false))
}

async fn what_is_there_is_seen_while_it_comes(on: Place) {
    let (site, mut gate) = gated(on, 1 << 30).await;
    let url = submit(&site).await;
    assert_eq!(gate.hears().await, "begun");
    let mut events = Events::of(&site, &url).await;
    let first = events.next().await.expect("one at once");
    assert_eq!((&first["state"], &first["report"]["pieces_done"]), (&json!("running"), &json!(0)));
    let png = site.get(format!("{url}/image.png")).await;
    assert_eq!((png.header("cache-control"), halves(&png.body)), ("no-store", (false, false)));
    gate.give(1);
    let view = until(&site, &url, |view| view["report"]["pieces_done"] == 1).await;
    assert_eq!((&view["state"], &view["percent"]), (&json!("running"), &json!(50.0)), "{view}");
    let second = events.next().await.expect("one of the tile");
    assert_eq!(second["report"]["pieces_done"], 1, "{second}");
    let half = site.get(format!("{url}/image.png")).await;
    assert_eq!(half.header("cache-control"), "no-store");
    let (left, right) = halves(&half.body);
    assert_ne!(left, right, "one tile is there");
    gate.give(100);
    let last = events.next().await.expect("the end");
    assert_eq!((&last["state"], &last["percent"]), (&json!("done"), &json!(100.0)), "{last}");
    assert_eq!(events.next().await, None);
    let mut late = Events::of(&site, &url).await;
    assert_eq!(late.next().await.expect("one")["state"], "done");
    assert_eq!(late.next().await, None);
    assert_eq!(halves(&site.get(format!("{url}/image.png")).await.body), (true, true));
    let whole = site.get(format!("{url}/image.png")).await.body;
    assert!(whole == direct(&site, TEXT.as_bytes(), Tone::default()).await);
}

async fn a_cancelled_picture_frees_the_worker(on: Place) {
    let (site, mut gate) = gated(on, 1 << 30).await;
    let url = submit(&site).await;
    gate.give(1);
    until(&site, &url, |view| view["report"]["pieces_done"] == 1).await;
    let poll = format!("{url}?wait=60");
    let (cancelled, polled) = tokio::join!(site.ask(Ask::delete(&url)), site.get(poll));
    assert_eq!(cancelled.is(200)["state"], "cancelled");
    assert_eq!(polled.is(200)["state"], "cancelled", "who waits is told");
    while gate.hears().await != "called off" {}
    let view = site.get(&url).await.is(200);
    assert_eq!((&view["state"], &view["report"]["complete"]), (&json!("cancelled"), &json!(false)), "{view}");
    let (left, right) = halves(&site.get(format!("{url}/image.png")).await.body);
    assert_ne!(left, right, "what was there is kept");
    let next = submit(&site).await;
    gate.give(100);
    assert_eq!(site.get(format!("{next}?wait=60")).await.is(200)["state"], "done");
    for url in [url, next] {
        site.ask(Ask::delete(&url)).await.is(200);
        site.ask(Ask::delete(&url)).await.problem(404, "not_found");
    }
    site.until_idle().await;
}

async fn a_tile_that_fails_fails_the_picture(on: Place) {
    let short = |mut blob: Blob| {
        blob.payload = vec![Bytes::from_static(b"1234")];
        blob
    };
    let site =
        Site::with(on, vec![Arc::new(Odd { before: |_: &[u8], _: &Watch| Ok(()), change: short })], |_| {}).await;
    let url = submit(&site).await;
    let view = site.get(format!("{url}?wait=60")).await.is(200);
    assert_eq!((&view["state"], &view["error"]["code"]), (&json!("failed"), &json!("invalid")), "{view}");
    let detail = view["error"]["detail"].as_str().expect("a reason");
    assert!(detail.starts_with("tile ") && detail.ends_with("came back as 4 bytes"), "{detail}");
    assert_eq!(halves(&site.get(format!("{url}/image.png")).await.body), (false, false));
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let site = renderer(Place::embedded()).await;
    for (query, field) in [
        ("size=5", "size"),
        ("size=0x5", "size"),
        ("size=65536x65536", "size"),
        ("spp=0", "spp"),
        ("spp=many", "spp"),
        ("spp=2000000", "spp"),
        ("seed=-1", "seed"),
        ("tile=0", "tile"),
        ("tile=1&size=8192x8192", "tile"),
        ("tile=1&spp=1048576", "tile"),
        ("depth=0", "depth"),
        ("depth=1025", "depth"),
        ("camera=-1", "camera"),
        ("sky=blue", "sky"),
        ("sky=1,2", "sky"),
        ("sky=-1", "sky"),
        ("priority=urgent", "priority"),
    ] {
        let reply = post(&site, &format!("/v1/render?{query}"), "text/plain", TEXT).await;
        assert_eq!(reply.problem(400, "bad_request")["field"], field, "{query}");
    }
    post(&site, "/v1/render?colour=1", "text/plain", TEXT).await.problem(400, "bad_request");
    post(&site, "/v1/render", "model/obj", TEXT).await.problem_at(415, "unsupported_media_type", "Content-Type");
    let camera = post(&site, "/v1/render?size=9x9&camera=1", "text/plain", TEXT).await;
    assert!(camera.problem_at(422, "invalid", "camera")["detail"].to_string().contains("it has 1 cameras"));
    for (body, reason) in [
        ("", "no geometry"),
        ("sphere 0 0 0 -1", "line 1"),
        ("{\"asset\": {}}", "save it as .glb"),
        ("v 0 0 0", "simple format"),
        ("glTF", "the scene"),
    ] {
        let reply = post(&site, "/v1/render?size=9x9", "application/octet-stream", body).await;
        let problem = reply.problem(422, "invalid");
        assert!(problem["detail"].to_string().contains(reason), "{body}: {problem}");
    }
    site.until_idle().await;
}

#[tokio::test]
async fn any_bytes_are_a_scene_or_a_problem() {
    let site = renderer(Place::embedded()).await;
    let mut random = SmallRng::seed_from_u64(1);
    for at in 0..60 {
        let mut bytes = match at % 3 {
            0 => (0..random.random_range(0..300)).map(|_| random.random()).collect(),
            1 => glb(),
            _ => TEXT.as_bytes().to_vec(),
        };
        for _ in 0..at.min(bytes.len()) {
            let place = random.random_range(0..bytes.len());
            bytes[place] = random.random();
        }
        let reply = post(&site, "/v1/render?size=8x8&spp=1", "application/octet-stream", bytes).await;
        match reply.status.as_u16() {
            202 => drop(site.ask(Ask::delete(accepted(&reply))).await.is(200)),
            _ => drop(reply.problem(422, "invalid")),
        }
    }
}

#[tokio::test]
async fn there_is_memory_for_it_or_it_is_refused() {
    // Two thirds of it are for bodies and pictures: one of 200 x 200 takes 2 MB.
    let (site, mut gate) = gated(Place::embedded(), 5 << 20).await;
    let call = "/v1/render?size=200x200&spp=1";
    let first = accepted(&post(&site, call, "text/plain", TEXT).await);
    assert_eq!(gate.hears().await, "begun");
    post(&site, call, "text/plain", TEXT).await.problem(503, "busy");
    post(&site, "/v1/render?size=2000x2000", "text/plain", TEXT).await.problem(413, "too_large");
    site.ask(Ask::delete(&first)).await.is(200);
    site.ask(Ask::delete(&first)).await.is(200);
    let second = accepted(&post(&site, call, "text/plain", TEXT).await);
    gate.give(1000);
    assert_eq!(site.get(format!("{second}?wait=60")).await.is(200)["state"], "done");
    site.ask(Ask::delete(&second)).await.is(200);
    site.until_idle().await;
}

#[tokio::test]
async fn so_many_are_made_at_a_time_and_no_more() {
    let (site, _gate) = gated(Place::embedded(), 1 << 30).await;
    let mut urls = Vec::new();
    for _ in 0..64 {
        urls.push(submit(&site).await);
    }
    post(&site, CALL, "text/plain", TEXT).await.problem(503, "busy");
    site.ask(Ask::delete(&urls[5])).await.is(200);
    soon("a turn", async {
        while post(&site, CALL, "text/plain", TEXT).await.status != 202 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let site = renderer(Place::embedded()).await;
    for (id, status, code) in [("00112233445566778899aabbccddeeff", 404, "not_found"), ("nonsense", 400, "bad_request")]
    {
        for end in ["", "/image.png", "/events"] {
            site.get(format!("/v1/render/{id}{end}")).await.problem(status, code);
        }
        site.ask(Ask::delete(format!("/v1/render/{id}"))).await.problem(status, code);
    }
    let url = submit(&site).await;
    site.get(format!("{url}?wait=-1")).await.problem_at(400, "bad_request", "wait");
    for (query, field) in [("exposure=NaN", "exposure"), ("exposure=65", "exposure"), ("tone=pink", "tone")] {
        site.get(format!("{url}/image.png?{query}")).await.problem_at(400, "bad_request", field);
    }
}

#[tokio::test]
async fn a_stop_ends_pictures_and_their_events() {
    let (mut site, mut gate) = gated(Place::embedded(), 1 << 30).await;
    let url = submit(&site).await;
    assert_eq!(gate.hears().await, "begun");
    let mut events = Events::of(&site, &url).await;
    assert_eq!(events.next().await.expect("one")["state"], "running");
    let (last, ()) = tokio::join!(events.next(), site.stop());
    assert_eq!(last, None);
    while gate.hears().await != "called off" {}
    site.start().await;
    site.get(&url).await.problem(404, "not_found");
}

#[tokio::test]
async fn one_that_has_ended_is_kept_for_a_time() {
    let short = |options: &mut rabbitry::bridge::Options| options.result_ttl = Duration::from_secs(2);
    let site = Site::with(Place::embedded(), vec![Arc::new(RenderHandler)], short).await;
    let url = submit(&site).await;
    assert_eq!(site.get(format!("{url}?wait=60")).await.is(200)["state"], "done");
    soon("its end", async {
        while site.get(&url).await.status != 404 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    site.until_idle().await;
}
