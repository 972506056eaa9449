//! A scene in, a picture out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, stream};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::super::answer;
use super::super::app::{App, Shared};
use super::super::body::Incoming;
use super::super::problem::Problem;
use super::super::renders::{Entry, Phase, RenderView};
use super::{Asked, Named, common, wait};
use crate::render::setting::{Setting, Size, Sky};
use crate::render::tone::{Curve, Tone};
use crate::task::{Priority, TaskId};

/// Memory for a body while it is read, in eighths of it: the file, the scene, and the scene as it travels.
const SCENE_EIGHTHS: u64 = 24;

/// The forms of body.
const TYPES: [&str; 3] = ["model/gltf-binary", "application/octet-stream", "text/plain"];

/// Between looks at a picture.
const LOOK: Duration = Duration::from_millis(250);

/// A picture so many stops brighter is white, and so many darker is black.
const EXPOSURE_MAX: f32 = 64.0;

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Its size in pixels, WIDTHxHEIGHT; at most 65536 a side, and 67108864 in all.
    #[param(default = "1280x720", pattern = "^[0-9]+[xX][0-9]+$")]
    size: String,
    /// Samples of each pixel: four times as many are half the noise.
    #[param(minimum = 1, maximum = 1048576, default = 64)]
    spp: u32,
    /// Seed of the random numbers: the same seed, the same picture to the bit.
    #[param(minimum = 0, default = 0)]
    seed: u64,
    /// Pixels across and down the tiles that workers take.
    #[param(minimum = 1, maximum = 1024, default = 64)]
    tile: u32,
    /// Bounces of light at most: 1 is direct light alone.
    #[param(minimum = 1, maximum = 1024, default = 8)]
    depth: u32,
    /// Which of the scene's cameras, from 0; one is made up where there is none.
    #[param(minimum = 0, default = 0)]
    camera: u32,
    /// Light from all around where nothing is, as one number or as R,G,B; without it that of the scene, and 1 if the scene
    /// has no light at all.
    #[param(example = "0.5,0.7,1")]
    sky: Option<String>,
    /// Which tasks workers take first.
    #[param(inline)]
    priority: Priority,
}

impl Default for Wanted {
    fn default() -> Self {
        let (size, priority) = ("1280x720".to_owned(), Priority::default());
        Wanted { size, spp: 64, seed: 0, tile: 64, depth: 8, camera: 0, sky: None, priority }
    }
}

impl Wanted {
    fn setting(&self) -> Result<Setting, Problem> {
        let wrong = |name: &'static str| move |reason: String| Problem::bad_request(reason).at(name);
        let &Wanted { spp, seed, tile, depth, camera, .. } = self;
        Ok(Setting {
            size: self.size.parse::<Size>().map_err(wrong("size"))?,
            samples: spp,
            seed,
            tile,
            depth,
            camera: camera as usize,
            sky: self.sky.as_deref().map(str::parse::<Sky>).transpose().map_err(wrong("sky"))?,
        })
    }
}

/// Renders a scene: a .glb that refers to no other file, or text in the simple format.
///
/// The picture is made by the whole pool, tile by tile; its URL says how far it is, and shows what is there. It lives in
/// the bridge's memory: a restart forgets it. Once it has ended it is kept for `--result-ttl`, or until it is deleted.
#[utoipa::path(post, path = "/v1/render", tag = "render", operation_id = "render", params(Wanted), request_body(content(
    (Vec<u8> = "model/gltf-binary"), (Vec<u8> = "application/octet-stream"), (String = "text/plain"),
)), responses(
    (status = 202, description = "It is being made", body = RenderView, headers(("location" = String, description = "The picture's URL"))),
    common::Refused,
))]
pub(super) async fn submit(
    State(app): State<Shared>,
    Asked(wanted): Asked<Wanted>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let room = app.renders.room(wanted.setting()?)?;
    let incoming = Incoming::new(&headers, body, app.options.max_body_bytes, &app.budget, SCENE_EIGHTHS)?;
    check_type(&headers)?;
    let (scene, memory) = incoming.whole().await?;
    let entry = app.renders.begin(room, scene, memory, wanted.priority).await?;
    let location = [(header::LOCATION, format!("/v1/render/{}", entry.id))];
    Ok((StatusCode::ACCEPTED, location, Json(RenderView::of(&entry))).into_response())
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let text = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if TYPES.iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    let detail = format!(
        "a body of type {text:?} is not read; send a .glb as model/gltf-binary, or the simple format as text/plain"
    );
    Err(Problem::unsupported(detail).at("Content-Type"))
}

fn find(app: &App, id: &str) -> Result<Arc<Entry>, Problem> {
    let id: TaskId =
        id.parse().map_err(|error: crate::task::TaskError| Problem::bad_request(error.to_string()).at("id"))?;
    app.renders.find(id).ok_or_else(|| {
        Problem::not_found(format!(
            "there is no picture {id} here: it was never submitted, was deleted or has expired, or the bridge was restarted"
        ))
    })
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Patience {
    /// Seconds to wait for its end, at most 600.
    #[serde(default)]
    #[param(minimum = 0, maximum = 600, default = 0)]
    wait: f64,
}

/// How far a picture is, and who makes it.
#[utoipa::path(get, path = "/v1/render/{id}", tag = "render", operation_id = "look_at_render", params(
    ("id" = String, Path, description = "The picture's id", pattern = "^[0-9a-fA-F]{32}$"), Patience,
), responses(
    (status = 200, description = "The picture, without its pixels", body = RenderView),
    common::NoPicture,
    common::Denied,
))]
pub(super) async fn look(
    State(app): State<Shared>,
    Named(id): Named,
    Asked(patience): Asked<Patience>,
) -> Result<Json<RenderView>, Problem> {
    let time = wait(patience.wait)?;
    let entry = find(&app, &id)?;
    tokio::select! {
        () = entry.ended() => {}
        () = tokio::time::sleep(time) => {}
        () = app.stop.cancelled() => {}
    }
    Ok(Json(RenderView::of(&entry)))
}

/// How a picture is shown.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
#[derive(Default)]
pub(super) struct Shown {
    /// Brightness in stops: 1 is twice as bright.
    #[param(minimum = -64, maximum = 64, default = 0)]
    exposure: f32,
    /// What becomes of highlights.
    #[param(inline)]
    tone: Highlights,
}

/// What becomes of highlights.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Highlights {
    /// Cut off.
    #[default]
    None,
    /// Rolled off as by film.
    Filmic,
}

/// What is there of a picture so far, as PNG (sRGB); black where nothing is yet.
#[utoipa::path(get, path = "/v1/render/{id}/image.png", tag = "render", operation_id = "render_image", params(
    ("id" = String, Path, description = "The picture's id", pattern = "^[0-9a-fA-F]{32}$"), Shown,
), responses(
    (status = 200, description = "The picture", body = Vec<u8>, content_type = "image/png"),
    common::NoPicture,
    common::Denied,
    common::NoRoom,
))]
pub(super) async fn image(
    State(app): State<Shared>,
    Named(id): Named,
    Asked(shown): Asked<Shown>,
) -> Result<Response, Problem> {
    let Shown { exposure, tone } = shown;
    // Not a number is in no range.
    if !(-EXPOSURE_MAX..=EXPOSURE_MAX).contains(&exposure) {
        let detail = format!("an exposure is -{EXPOSURE_MAX} to {EXPOSURE_MAX} stops, not {exposure}");
        return Err(Problem::bad_request(detail).at("exposure"));
    }
    let curve = match tone {
        Highlights::None => Curve::None,
        Highlights::Filmic => Curve::Filmic,
    };
    let entry = find(&app, &id)?;
    // Before the look at its pixels: what was running then may change after.
    let running = matches!(entry.phase(), Phase::Running(_));
    let (png, memory) = app.renders.png(&entry, Tone { exposure, curve }).await?;
    let said = if running { vec![("cache-control", "no-store".to_owned())] } else { Vec::new() };
    Ok(answer::bytes("image/png", vec![png], said, memory))
}

/// One of these events.
#[derive(ToSchema)]
#[allow(dead_code)]
pub(super) struct RenderEvent {
    #[schema(pattern = "^state$")]
    event: String,
    /// The picture as JSON text.
    data: String,
}

/// How far a picture is, as server-sent events: one at once, one when there is more of it (up to four a second), the last
/// one when it has ended.
#[utoipa::path(get, path = "/v1/render/{id}/events", tag = "render", operation_id = "render_events", params(("id" = String, Path, description = "The picture's id", pattern = "^[0-9a-fA-F]{32}$")), responses(
    (status = 200, description = "Events `state`, each a picture in JSON", body = RenderEvent, content_type = "text/event-stream"),
    common::NoPicture,
    common::Denied,
))]
pub(super) async fn events(
    State(app): State<Shared>,
    Named(id): Named,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let entry = find(&app, &id)?;
    let views = stream::unfold((app, entry, None::<RenderView>), |(app, entry, last)| async move {
        if last.as_ref().is_some_and(|last| !last.is_running()) {
            return None;
        }
        let view = change(&app, &entry, last).await?;
        let event = Event::default().event("state").json_data(&view).unwrap_or_default();
        Some((Ok(event), (app, entry, Some(view))))
    });
    Ok(Sse::new(views).keep_alive(KeepAlive::default()))
}

/// The next view that tells more than the last one; `None` if the bridge stops.
async fn change(app: &App, entry: &Entry, last: Option<RenderView>) -> Option<RenderView> {
    let Some(last) = last else { return Some(RenderView::of(entry)) };
    loop {
        tokio::select! {
            biased;
            () = app.stop.cancelled() => return None,
            () = entry.ended() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let view = RenderView::of(entry);
        if view.differs(&last) {
            return Some(view);
        }
    }
}

/// Cancels a picture; one that has ended is forgotten.
///
/// What is there of a cancelled one can still be seen.
#[utoipa::path(delete, path = "/v1/render/{id}", tag = "render", operation_id = "cancel_render", params(("id" = String, Path, description = "The picture's id", pattern = "^[0-9a-fA-F]{32}$")), responses(
    (status = 200, description = "The picture as it is now", body = RenderView),
    common::NoPicture,
    common::Denied,
))]
pub(super) async fn cancel(State(app): State<Shared>, Named(id): Named) -> Result<Json<RenderView>, Problem> {
    let entry = find(&app, &id)?;
    match entry.phase() {
        Phase::Running(_) => {
            entry.stop.cancel();
            entry.ended().await;
        }
        Phase::Ended(_) => app.renders.remove(&entry),
    }
    Ok(Json(RenderView::of(&entry)))
}
