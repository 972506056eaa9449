//! The calls: one file for each group of them. Each says of itself what the OpenAPI document has.

// What `utoipa::path` writes names its types by their whole path.
#![allow(unused_qualifications)]

mod common;
mod docs;
mod health;
mod leases;
mod queues;
mod render;
mod solve;
mod tasks;
mod workers;

use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::app::Shared;
use super::body::Incoming;
use super::problem::Problem;
use super::{form, guard};

/// The most that a request may wait.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Headers that pages of other origins may send.
const SENT: [&str; 5] = ["authorization", "content-type", "accept", "idempotency-key", form::PARAMS_HEADER];

/// Headers that they may read.
const ANSWERED: [&str; 13] = [
    "location",
    "retry-after",
    "rabbitry-task",
    "rabbitry-worker",
    "rabbitry-certificate",
    "rabbitry-shape",
    "rabbitry-order",
    "rabbitry-lease",
    "rabbitry-kind",
    "rabbitry-attempt",
    "rabbitry-expires-in",
    "rabbitry-deadline-in",
    form::PARAMS_HEADER,
];

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rabbitry",
        description = "Dense systems A X = B solved, and pictures rendered, on a pool of workers, over HTTP.",
        license(name = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "tasks", description = "Submit, wait, read, cancel"),
        (name = "render", description = "Scenes in, pictures out"),
        (name = "workers", description = "Who computes"),
        (name = "leases", description = "Bring a worker in another language"),
        (name = "health", description = "How the bridge is"),
    ),
)]
struct Document;

/// The calls for everybody, those for who has a token, and the description of both.
pub(super) fn calls() -> (Router<Shared>, Router<Shared>, utoipa::openapi::OpenApi) {
    let open = OpenApiRouter::new()
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(docs::openapi));
    let guarded = OpenApiRouter::new()
        .routes(routes!(solve::solve))
        .routes(routes!(tasks::submit, tasks::recent))
        .routes(routes!(tasks::look, tasks::cancel))
        .routes(routes!(tasks::events))
        .routes(routes!(render::submit))
        .routes(routes!(render::look, render::cancel))
        .routes(routes!(render::image))
        .routes(routes!(render::events))
        .routes(routes!(workers::workers))
        .routes(routes!(leases::lease))
        .routes(routes!(leases::renew, leases::give_back))
        .routes(routes!(leases::result))
        .routes(routes!(leases::error))
        .routes(routes!(queues::queues))
        .routes(routes!(queues::metrics));
    let (open, first) = open.split_for_parts();
    let (guarded, second) = guarded.split_for_parts();
    let mut document = Document::openapi();
    document.merge(first);
    document.merge(second);
    (open, guarded, document)
}

/// Says in the document that a token is wanted, so that /docs asks for it.
pub(super) fn wants_token(document: &mut utoipa::openapi::OpenApi) {
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    document.components.get_or_insert_default().add_security_scheme("token", scheme);
    document.security = Some(vec![SecurityRequirement::new("token", Vec::<String>::new())]);
}

/// The whole service.
pub(super) fn service(app: Shared, open: Router<Shared>, guarded: Router<Shared>) -> Router {
    let guarded = match &app.options.tokens {
        Some(tokens) => guarded.route_layer(axum::middleware::from_fn_with_state(tokens.clone(), guard::check)),
        None => guarded,
    };
    // Its own way is to ask a service on the internet whether the document is right.
    let page = SwaggerUi::new("/docs").config(Config::from("/openapi.json").validator_url("none"));
    let mut calls = open
        .merge(guarded)
        .merge(page)
        .route("/", axum::routing::get(docs::root))
        .fallback(nothing_here)
        .method_not_allowed_fallback(no_such_method)
        .layer(axum::middleware::from_fn_with_state(app.clone(), measure));
    if !app.options.cors_origins.is_empty() {
        calls = calls.layer(cors(&app.options.cors_origins));
    }
    let broken = |panic: Box<dyn std::any::Any + Send>| {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        tracing::error!(panic = text.unwrap_or("no message"), "a request broke the bridge");
        Problem::internal("this request met a defect of the bridge; its log says more").into_response()
    };
    calls.layer(CatchPanicLayer::custom(broken)).with_state(app)
}

/// Counts and times a request.
async fn measure(State(app): State<Shared>, route: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let response = next.run(request).await;
    // What matches nothing may be anything.
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    app.metrics.request(known(&method), route, response.status().as_u16(), started.elapsed());
    response
}

/// A method as a label: anybody can invent others.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET | Method::HEAD | Method::POST | Method::PUT | Method::PATCH | Method::DELETE | Method::OPTIONS => {
            method.as_str()
        }
        _ => "other",
    }
}

fn cors(origins: &[HeaderValue]) -> CorsLayer {
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().cloned())
    };
    CorsLayer::new()
        .allow_origin(origin)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers(SENT.map(HeaderName::from_static))
        .expose_headers(ANSWERED.map(HeaderName::from_static))
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::not_found(format!("there is nothing at {}; /docs has what there is", uri.path()))
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("{} has no {method}; /docs has what it has", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "No such method here", detail)
}

/// The query of a request, or a problem.
pub(super) struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(asked)) => Ok(Asked(asked)),
            Err(rejection) => Err(wrong_query(&rejection)),
        }
    }
}

fn wrong_query(rejection: &QueryRejection) -> Problem {
    let text = rejection.body_text();
    let reason = text.split_once("query string: ").map_or(&*text, |(_, reason)| reason);
    // `limit: invalid digit`, or "missing field `kind`".
    let named = reason.split_once(": ").map(|(name, _)| name);
    let field = named.or_else(|| reason.split('`').nth(1)).unwrap_or("query").to_owned();
    Problem::bad_request(format!("the query can't be read: {reason}; /docs has what there is")).at(field)
}

/// The one name in a path, or a problem.
pub(super) struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = Path::<String>::from_request_parts(parts, state).await;
        named.map(|Path(name)| Named(name)).map_err(|rejection| Problem::bad_request(rejection.body_text()).at("id"))
    }
}

/// A small JSON body, or a problem.
pub(super) struct JsonBody<T>(pub T);

/// The longest of those.
const JSON_BODY_BYTES: usize = 64 << 10;

impl<T: DeserializeOwned> FromRequest<Shared> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let content_type =
            parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let incoming = Incoming::new(&parts.headers, body, JSON_BODY_BYTES as u64, &app.budget, 16)?;
        if !essence.eq_ignore_ascii_case("application/json") {
            let detail = format!("a body of type {content_type:?} is not read; send application/json");
            return Err(Problem::unsupported(detail).at("Content-Type"));
        }
        let (text, _reservation) = incoming.whole().await?;
        serde_json::from_slice(&text).map(JsonBody).map_err(|error| Problem::bad_request(format!("the body: {error}")))
    }
}

/// Seconds to wait, as a request says them.
pub(super) fn wait(seconds: f64) -> Result<Duration, Problem> {
    // As a Duration the next number above the most would be the most.
    let legal = (0.0..=WAIT_MAX.as_secs_f64()).contains(&seconds);
    let wait = legal.then(|| Duration::try_from_secs_f64(seconds).ok()).flatten();
    wait.ok_or_else(|| {
        Problem::bad_request(format!("wait is 0 to {} seconds, not {seconds}", WAIT_MAX.as_secs())).at("wait")
    })
}
