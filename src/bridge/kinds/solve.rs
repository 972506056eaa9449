//! `solve` over HTTP: a and b in, x and its certificate out.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde::de::IntoDeserializer;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::super::form::{Field, PriorityForm, Wishes};
use super::super::problem::Problem;
use super::{AnswerForm, KindForm};
use crate::files;
use crate::task::{Blob, Encoded, Format, Kind, Task, TaskError};
use crate::tasks::solve::{How, Matrix, Order, Solution, System};

pub(super) struct Solve;

impl KindForm for Solve {
    fn kind(&self) -> Kind {
        System::KIND
    }

    fn read_json(&self, text: Vec<u8>) -> Result<(Encoded, Wishes), Problem> {
        let _ = text;
        Err(Problem::unsupported("not yet"))
    }

    fn read_fields(&self, fields: Vec<Field>) -> Result<(Encoded, Wishes), Problem> {
        let (mut a, mut b) = (None, None);
        let (mut how, mut wishes) = (How::default(), Wishes::default());
        let mut seen = Vec::new();
        for field in fields {
            let name = field.name.clone();
            if seen.contains(&name) {
                return Err(Problem::bad_request(format!("the part {name:?} comes twice")).at(name));
            }
            match name.as_str() {
                "a" => a = Some(npy(field)?),
                "b" => b = Some(npy(field)?),
                "method" => how.method = word(&field)?,
                "reproducible" => how.reproducible = flag(&field)?,
                "priority" => wishes.priority = word::<PriorityForm>(&field)?.into(),
                "deadline_ms" => wishes.deadline = Some(milliseconds(&field)?),
                _ => {
                    let known = "a, b, method, reproducible, priority and deadline_ms are known";
                    return Err(Problem::bad_request(format!("an unknown part {name:?}; {known}")).at(name));
                }
            }
            seen.push(name);
        }
        let missing = |name: &str| {
            Problem::bad_request(format!("there is no part {name:?}; send it as a file, {name}.npy")).at(name)
        };
        let system = System { a: a.ok_or_else(|| missing("a"))?, b: b.ok_or_else(|| missing("b"))?, how };
        Ok((system.encode(Format::Binary)?, wishes))
    }

    fn read_raw(&self, blob: Blob) -> Result<Encoded, Problem> {
        let _ = blob;
        Err(Problem::unsupported("not yet"))
    }

    fn decode(&self, task_params: &[u8], answer: Blob) -> Result<Box<dyn AnswerForm>, TaskError> {
        Ok(Box::new(System::decode_answer(task_params, answer)?))
    }
}

fn npy(field: Field) -> Result<Matrix, Problem> {
    let Field { name, bytes } = field;
    files::npy::parse(bytes).map_err(|reason| Problem::invalid(format!("the part {name:?} {reason}")).at(name))
}

/// A word of an enum as JSON has it.
fn word<'de, T: Deserialize<'de>>(field: &'de Field) -> Result<T, Problem> {
    let text: StrDeserializer<'_, ValueError> = field.text()?.into_deserializer();
    T::deserialize(text)
        .map_err(|error| Problem::bad_request(format!("the part {:?}: {error}", field.name)).at(&*field.name))
}

fn flag(field: &Field) -> Result<bool, Problem> {
    match field.text()? {
        "true" => Ok(true),
        "false" => Ok(false),
        other => Err(Problem::bad_request(format!("{} is true or false, not {other:?}", field.name)).at(&*field.name)),
    }
}

fn milliseconds(field: &Field) -> Result<Duration, Problem> {
    let text = field.text()?;
    let number = text.parse().ok().filter(|ms| *ms > 0).map(Duration::from_millis);
    number.ok_or_else(|| {
        Problem::bad_request(format!("{} is a number above 0, not {text:?}", field.name)).at(&*field.name)
    })
}

impl AnswerForm for Solution {
    fn json(&self) -> Result<Vec<(&'static str, Vec<u8>)>, Problem> {
        todo!()
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let x = &self.x;
        let shape = if x.is_vector() { x.rows().to_string() } else { format!("{},{}", x.rows(), x.cols()) };
        let order = match x.order() {
            Order::ColMajor if !x.is_vector() => "F",
            _ => "C",
        };
        // Numbers and words: nothing in it can fail.
        let certificate = serde_json::to_string(&self.certificate).unwrap_or_default();
        vec![("rabbitry-shape", shape), ("rabbitry-order", order.into()), ("rabbitry-certificate", certificate)]
    }

    fn into_npy(self: Box<Self>) -> Result<Vec<Bytes>, Problem> {
        let header = files::npy::header(&self.x).map_err(|error| Problem::internal(error.to_string()))?;
        Ok(vec![header.into(), self.x.into_bytes()])
    }

    fn into_raw(self: Box<Self>) -> Vec<Bytes> {
        vec![self.x.into_bytes()]
    }
}
