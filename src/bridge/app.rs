//! What all requests share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::Options;
use super::budget::Budget;
use super::leases::Leases;
use super::metrics::Metrics;
use super::renders::Renders;
use super::tasks::Tasks;
use crate::boss::Boss;

pub(super) struct App {
    pub boss: Arc<Boss>,
    pub options: Options,
    pub budget: Budget,
    pub tasks: Arc<Tasks>,
    pub renders: Arc<Renders>,
    pub leases: Leases,
    pub metrics: Metrics,
    pub document: utoipa::openapi::OpenApi,
    /// No new requests, and no more waiting.
    pub stop: CancellationToken,
}

/// As handlers get it.
pub(super) type Shared = Arc<App>;
