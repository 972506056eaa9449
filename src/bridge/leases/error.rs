//! What can be wrong with a request of an outside worker.

use std::time::Duration;

use super::LeaseId;
use crate::broker;
use crate::task::TaskError;

/// How a lease ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Ended {
    /// With the outcome of its task.
    #[error("its task has an outcome")]
    Answered,
    /// It was not renewed: another worker has the task.
    #[error("it was not renewed in time, and its task went to another worker; renew earlier")]
    Expired,
    /// Nobody waits for the task any more.
    #[error("{0}; drop the task")]
    Stopped(TaskError),
    /// Its worker gave it back.
    #[error("its worker gave it back")]
    GivenBack,
    /// The bridge was shut down.
    #[error("the bridge was shut down, and its task went to another worker")]
    Closed,
    /// The bridge lost the broker for good.
    #[error("the bridge lost its broker, which gives the task to another worker")]
    Broken,
}

/// Why a request about leases can't be met. After each variant: the HTTP status it is meant for.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LeaseError {
    /// 404: no lease has this id, or it ended long ago.
    #[error("there is no lease {0}; ask for one with POST /v1/leases")]
    Unknown(LeaseId),
    /// 410: it was there.
    #[error("the lease {lease} is over: {how}")]
    Ended {
        /// The lease.
        lease: LeaseId,
        /// Why.
        how: Ended,
    },
    /// 400: kinds that the bridge does not know, or none at all.
    #[error("unknown kinds: {unknown:?}; name one or more of {known}")]
    Kinds {
        /// What was asked for and is not there.
        unknown: Vec<String>,
        /// What is there, comma separated.
        known: String,
    },
    /// 409: a worker has one lease at a time.
    #[error(
        "this worker (the same name, host and pid) has an open lease: answer it or give it back, or wait for its end in \
         {} s; a second worker needs a name of its own", expires_in.as_secs_f64().ceil()
    )]
    Busy {
        /// When it ends unless it is renewed.
        expires_in: Duration,
    },
    /// 409: another request of the same worker has taken the place of this one.
    #[error(
        "another request for a lease by the same worker (name, host and pid) has taken the place of this one; a second \
         worker needs a name of its own"
    )]
    Replaced,
    /// 409: an answer to this lease is being looked at.
    #[error("an answer to the lease {0} is being checked; wait for what comes of it")]
    Answering(LeaseId),
    /// 422: the answer can't be right. The lease stays open, and is renewed.
    #[error("not an answer to the task: {0}; the lease is open, send a right one")]
    Refused(TaskError),
    /// 503: as many workers as there may be.
    #[error("{max} outside workers are connected, and there may be no more; try again later, or at another bridge")]
    Full {
        /// How many there may be.
        max: usize,
    },
    /// 503: the bridge is shut down.
    #[error("the bridge is being shut down; try another, or this one in a while")]
    Closing,
    /// 503: the bridge has no broker.
    #[error("{0}")]
    Broker(broker::Error),
}
