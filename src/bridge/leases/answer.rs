//! Answers and errors that come from outside.

use std::sync::Arc;

use crate::task::{Blob, Format, Handler, MAX_PARAMS, Task, TaskError};

/// Whether this is an answer to a task with these parameters.
pub(super) type Check = fn(&[u8], Blob) -> Result<(), TaskError>;

/// A kind of task that can be leased.
#[derive(Clone)]
pub struct Offer {
    pub(super) handler: Arc<dyn Handler>,
    pub(super) check: Check,
}

impl Offer {
    /// The kind of `T`. The handler only plans, and computes nothing.
    pub fn new<T: Task>(handler: Arc<dyn Handler>) -> Self {
        Offer { handler, check: |task, answer| T::decode_answer(task, answer).map(drop) }
    }
}

/// Whether bytes from outside are an answer that its asker will take.
pub(super) fn check_answer(check: Option<Check>, task: &Blob, answer: Blob) -> Result<(), TaskError> {
    if answer.format != task.format {
        let (asked, came) = (task.format.content_type(), answer.format.content_type());
        return Err(TaskError::Invalid(format!("the task is {asked}, so its answer must be, and not {came}")));
    }
    if answer.params.len() > MAX_PARAMS {
        let bytes = answer.params.len();
        return Err(TaskError::Invalid(format!("{bytes} bytes of parameters, {MAX_PARAMS} are allowed")));
    }
    match check {
        // A foreign client may have sent a task without parameters: nobody knows what it asked for but itself.
        Some(check) if !(task.params.is_empty() && task.format == Format::Json) => check(&task.params, answer),
        _ => Ok(()),
    }
}

/// An error travels in a head, which has little room.
pub(super) fn short(error: TaskError) -> TaskError {
    let short = |text: String| text.chars().take(1000).collect();
    match error {
        TaskError::Invalid(text) => TaskError::Invalid(short(text)),
        TaskError::Panicked(text) => TaskError::Panicked(short(text)),
        TaskError::Refused(text) => TaskError::Refused(short(text)),
        TaskError::UnknownKind { kind, known } => TaskError::UnknownKind { kind: short(kind), known: short(known) },
        other => other,
    }
}
