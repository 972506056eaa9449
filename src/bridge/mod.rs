//! HTTP for everybody else: submit tasks, read results, find the live workers, bring workers in other languages.
//!
//! Must not touch: queues and their messages (it holds a [`crate::boss::Boss`], never a broker).

