//! Kind to handler.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::task::{Handler, Kind, TaskError};

/// The handlers of a worker, by kind.
pub(super) struct Registry {
    handlers: BTreeMap<String, Arc<dyn Handler>>,
}

impl Registry {
    pub(super) fn new(handlers: Vec<Arc<dyn Handler>>) -> Self {
        Registry { handlers: handlers.into_iter().map(|handler| (handler.kind().to_string(), handler)).collect() }
    }

    pub(super) fn find(&self, kind: &str) -> Result<&Arc<dyn Handler>, TaskError> {
        self.handlers.get(kind).ok_or_else(|| TaskError::UnknownKind { kind: kind.to_owned(), known: self.names() })
    }

    pub(super) fn kinds(&self) -> Vec<Kind> {
        self.handlers.values().map(|handler| handler.kind()).collect()
    }

    pub(super) fn names(&self) -> String {
        self.handlers.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }

    /// The fastest figure of its handlers, for the directory.
    pub(super) fn gflops(&self) -> f64 {
        self.handlers.values().map(|handler| handler.gflops()).fold(0.0, f64::max)
    }
}
