//! The walk over the text of a system or of a solution: which fields there are, and rows of numbers into flat vectors.
//!
//! A pull parser: no tree is built, nothing recurses, and wherever it stops this file knows the place. Base64 is only
//! found here; `base64.rs` decodes it, in the text itself.

use std::ops::Range;

use jiter::{Jiter, JiterError, JiterErrorType, JiterResult, JsonErrorType, NumberInt, Peek};
use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::super::{Certificate, Choice, How, Matrix, Order};
use super::base64::{Dtype, Layout, Packed, Shape};
use super::{JsonError, Wishes};

/// Longest piece of the text that an error quotes.
const QUOTED_BYTES: usize = 64;

const SYSTEM: &[&str] = &["a", "b", "method", "reproducible", "priority", "deadline_ms"];
const SOLUTION: &[&str] = &["x", "certificate"];
const PACKED: &[&str] = &["shape", "dtype", "order", "data"];

/// A matrix as the text has it.
pub(super) enum Value {
    /// It was a list.
    Numbers(Matrix),
    /// It was an object with base64, which still lies in the text.
    Packed(Packed),
}

/// A system whose base64 is not decoded yet.
pub(super) struct SystemForm {
    pub a: Value,
    pub b: Value,
    pub how: How,
    pub wishes: Wishes,
}

/// A solution, likewise.
pub(super) struct SolutionForm {
    pub x: Value,
    pub certificate: Certificate,
}

/// Reads a system.
pub(super) fn system(text: &[u8]) -> Result<SystemForm, JsonError> {
    let mut reader = Reader::new(text);
    let (mut a, mut b, mut method, mut reproducible) = (None, None, None, None);
    let (mut priority, mut deadline_ms) = (None, None);
    let mut key = reader.first_key("", SYSTEM)?;
    while let Some(name) = key {
        match name {
            "a" => reader.fill(&mut a, "/a", |reader| reader.matrix("/a", true))?,
            "b" => reader.fill(&mut b, "/b", |reader| reader.matrix("/b", false))?,
            "method" => reader.fill(&mut method, "/method", |reader| reader.word::<Choice>("/method"))?,
            "reproducible" => {
                reader.fill(&mut reproducible, "/reproducible", |reader| reader.flag("/reproducible"))?;
            }
            "priority" => reader.fill(&mut priority, "/priority", |reader| reader.word("/priority"))?,
            _ => reader.fill(&mut deadline_ms, "/deadline_ms", |reader| reader.milliseconds("/deadline_ms"))?,
        }
        key = reader.next_key("", SYSTEM)?;
    }
    reader.finish()?;
    let form = "a system is {\"a\": [[..], ..], \"b\": [..]}";
    Ok(SystemForm {
        a: a.ok_or_else(|| missing("/a", form))?,
        b: b.ok_or_else(|| missing("/b", form))?,
        how: How { method: method.unwrap_or_default(), reproducible: reproducible.unwrap_or_default() },
        wishes: Wishes { priority, deadline_ms },
    })
}

/// Reads a solution.
pub(super) fn solution(text: &[u8]) -> Result<SolutionForm, JsonError> {
    let mut reader = Reader::new(text);
    let (mut x, mut certificate) = (None, None);
    let mut key = reader.first_key("", SOLUTION)?;
    while let Some(name) = key {
        match name {
            "x" => reader.fill(&mut x, "/x", |reader| reader.matrix("/x", false))?,
            _ => reader.fill(&mut certificate, "/certificate", Reader::certificate)?,
        }
        key = reader.next_key("", SOLUTION)?;
    }
    reader.finish()?;
    let form = "a solution is {\"x\": [..] or [[..], ..], \"certificate\": {..}}";
    Ok(SolutionForm {
        x: x.ok_or_else(|| missing("/x", form))?,
        certificate: certificate.ok_or_else(|| missing("/certificate", form))?,
    })
}

fn missing(pointer: &str, form: &str) -> JsonError {
    JsonError { field: Some(pointer.to_owned()), reason: format!("missing; {form}") }
}

/// How many numbers the text can hold at most: each but the last has a comma behind it.
fn count_numbers(text: &[u8]) -> usize {
    // Up to 255 fit into a u8, of which the compiler sums 16 at a time.
    let commas = |piece: &[u8]| piece.iter().map(|byte| u8::from(*byte == b',')).sum::<u8>();
    text.chunks(240).map(|piece| usize::from(commas(piece))).sum::<usize>() + 1
}

struct Reader<'t> {
    text: &'t [u8],
    jiter: Jiter<'t>,
    /// Where the last key begins.
    key_at: usize,
    /// Numbers there may be from here on, once somebody asked.
    numbers_left: Option<usize>,
}

/// Why a run of numbers ended before its bracket, and behind how many numbers.
struct Stumble {
    count: usize,
    cause: Cause,
}

enum Cause {
    /// The next element is no number, or none of f64.
    Value(JiterResult<f64>),
    /// Neither a comma and an element nor the bracket.
    Step(JiterError),
}

impl<'t> Reader<'t> {
    fn new(text: &'t [u8]) -> Self {
        Reader { text, jiter: Jiter::new(text), key_at: 0, numbers_left: None }
    }

    /// An error at a byte of the text.
    fn error(&self, pointer: impl Into<String>, at: usize, reason: impl std::fmt::Display) -> JsonError {
        let before = &self.text[..at.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        let field = Some(pointer.into()).filter(|pointer| !pointer.is_empty());
        JsonError { field, reason: format!("{reason} (line {line}, column {column})") }
    }

    /// The parser's own error.
    fn parser_error(&self, pointer: impl Into<String>, error: &JiterError) -> JsonError {
        use JsonErrorType::{
            EofWhileParsingList, EofWhileParsingObject, EofWhileParsingString, EofWhileParsingValue,
            InvalidUnicodeCodePoint, TrailingCharacters,
        };
        let advice = match &error.error_type {
            JiterErrorType::JsonError(
                EofWhileParsingList | EofWhileParsingObject | EofWhileParsingString | EofWhileParsingValue,
            ) => ": the text is cut short",
            JiterErrorType::JsonError(InvalidUnicodeCodePoint) => ": the text is not UTF-8",
            JiterErrorType::JsonError(TrailingCharacters) => ": nothing may follow the closing brace",
            _ => "",
        };
        self.error(pointer, error.index, format_args!("not JSON: {}{advice}", error.error_type))
    }

    /// The value that begins here is not what it should be.
    fn wrong(&self, pointer: impl Into<String>, wanted: &str) -> JsonError {
        let at = self.jiter.current_index();
        self.error(pointer, at, format_args!("{} where {wanted} should be", describe(&self.text[at..])))
    }

    fn peek(&mut self, pointer: &str) -> Result<Peek, JsonError> {
        self.jiter.peek().map_err(|error| self.parser_error(pointer, &error))
    }

    /// Enters an object.
    fn first_key(&mut self, parent: &str, known: &[&'static str]) -> Result<Option<&'static str>, JsonError> {
        if self.peek(parent)? != Peek::Object {
            return Err(self.wrong(parent, "an object {..}"));
        }
        let key = self.jiter.next_object_bytes().map(|key| key.map(quote));
        self.known_key(key, parent, known)
    }

    fn next_key(&mut self, parent: &str, known: &[&'static str]) -> Result<Option<&'static str>, JsonError> {
        let key = self.jiter.next_key_bytes().map(|key| key.map(quote));
        self.known_key(key, parent, known)
    }

    fn known_key(
        &mut self,
        key: JiterResult<Option<(usize, Option<String>)>>,
        parent: &str,
        known: &[&'static str],
    ) -> Result<Option<&'static str>, JsonError> {
        let Some((len, key)) = key.map_err(|error| self.parser_error(parent, &error))? else { return Ok(None) };
        // Only spaces and the colon lie between the closing quote and here.
        let after = &self.text[..self.jiter.current_index()];
        let closing = after.iter().rposition(|byte| *byte == b'"').unwrap_or_default();
        self.key_at = closing.saturating_sub(len + 1);
        let Some(key) = key else {
            return Err(self.error(parent, self.key_at, "the name of a field is not UTF-8"));
        };
        if let Some(known) = known.iter().find(|known| **known == key) {
            return Ok(Some(known));
        }
        let pointer = format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"));
        let reason = format!("unknown field {key:?}; known are {}", known.join(", "));
        Err(self.error(pointer, self.key_at, reason))
    }

    /// Reads a field that may be there once.
    fn fill<T>(
        &mut self,
        slot: &mut Option<T>,
        pointer: &str,
        read: impl FnOnce(&mut Self) -> Result<T, JsonError>,
    ) -> Result<(), JsonError> {
        if slot.is_some() {
            return Err(self.error(pointer, self.key_at, "this field is there twice"));
        }
        *slot = Some(read(self)?);
        Ok(())
    }

    fn finish(&mut self) -> Result<(), JsonError> {
        self.jiter.finish().map_err(|error| self.parser_error("", &error))
    }

    fn matrix(&mut self, pointer: &'static str, rows_only: bool) -> Result<Value, JsonError> {
        match self.peek(pointer)? {
            Peek::Array => self.list(pointer, rows_only).map(Value::Numbers),
            Peek::Object => self.packed(pointer, rows_only).map(Value::Packed),
            _ if rows_only => Err(self.wrong(pointer, "a list of rows or an object with \"data\"")),
            _ => Err(self.wrong(pointer, "a list of numbers, a list of rows or an object with \"data\"")),
        }
    }

    fn list(&mut self, pointer: &str, rows_only: bool) -> Result<Matrix, JsonError> {
        let first = self.jiter.known_array().map_err(|error| self.parser_error(pointer, &error))?;
        let mut numbers = self.reserve(pointer)?;
        let matrix = match first {
            None => Matrix::vector(Vec::new()),
            Some(Peek::Array) => {
                let (rows, cols) = self.rows(pointer, first, &mut numbers)?;
                numbers.shrink_to_fit();
                let matrix = Matrix::new(rows, cols, Order::RowMajor, numbers);
                matrix.map_err(|error| self.error(pointer, self.jiter.current_index(), error))?
            }
            Some(_) if rows_only => return Err(self.wrong(format!("{pointer}/0"), "a row, a list of numbers,")),
            Some(_) => {
                self.numbers(first, &mut numbers).map_err(|stumble| self.stumble(pointer, stumble))?;
                numbers.shrink_to_fit();
                Matrix::vector(numbers)
            }
        };
        self.numbers_left = self.numbers_left.map(|left| left.saturating_sub(matrix.as_slice().len()));
        Ok(matrix)
    }

    /// Room for all numbers there may still be, so that the vector never moves. Memory nobody touches costs nothing, and
    /// every 8 bytes of it have a comma in the text.
    fn reserve(&mut self, pointer: &str) -> Result<Vec<f64>, JsonError> {
        let count = *self.numbers_left.get_or_insert_with(|| count_numbers(self.text));
        let mut numbers = Vec::new();
        match numbers.try_reserve_exact(count) {
            Ok(()) => Ok(numbers),
            Err(_) => {
                let reason = format!("no memory here for up to {count} numbers");
                Err(self.error(pointer, self.jiter.current_index(), reason))
            }
        }
    }

    /// Rows and columns, from the first row's bracket on.
    fn rows(
        &mut self,
        pointer: &str,
        mut next: Option<Peek>,
        numbers: &mut Vec<f64>,
    ) -> Result<(usize, usize), JsonError> {
        let (mut rows, mut width) = (0, None);
        while let Some(peek) = next {
            let row = || format!("{pointer}/{rows}");
            if peek != Peek::Array {
                return Err(self.wrong(row(), "a row, a list of numbers,"));
            }
            let at = self.jiter.current_index();
            let first = self.jiter.known_array().map_err(|error| self.parser_error(row(), &error))?;
            let count = self.numbers(first, numbers).map_err(|stumble| self.stumble(&row(), stumble))?;
            let width = *width.get_or_insert(count);
            if width != count {
                let reason = format!("row {rows} has length {count} and row 0 has length {width} (counted from 0)");
                return Err(self.error(row(), at, format_args!("{reason}; all must have the same")));
            }
            rows += 1;
            next = self.jiter.array_step().map_err(|error| self.parser_error(pointer, &error))?;
        }
        Ok((rows, width.unwrap_or_default()))
    }

    /// The hot loop: numbers up to the closing bracket, and how many.
    fn numbers(&mut self, mut next: Option<Peek>, numbers: &mut Vec<f64>) -> Result<usize, Stumble> {
        let mut count = 0;
        while let Some(peek) = next {
            match self.jiter.known_float(peek) {
                Ok(number) if number.is_finite() => numbers.push(number),
                other => return Err(Stumble { count, cause: Cause::Value(other) }),
            }
            count += 1;
            next = match self.jiter.array_step() {
                Ok(next) => next,
                Err(error) => return Err(Stumble { count, cause: Cause::Step(error) }),
            };
        }
        Ok(count)
    }

    fn stumble(&self, list: &str, Stumble { count, cause }: Stumble) -> JsonError {
        // The parser stands before a number it did not take, behind one that is too large.
        let at = self.jiter.current_index();
        match cause {
            Cause::Value(Ok(_)) => {
                let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                let start = at - self.text[..at].iter().rev().take_while(|byte| token(byte)).count();
                let (_, number) = quote(&self.text[start..at]);
                let number = number.unwrap_or_default();
                self.error(
                    format!("{list}/{count}"),
                    start,
                    format_args!("{number} is beyond f64, which ends at 1.8e308"),
                )
            }
            Cause::Value(Err(error)) => {
                let pointer = format!("{list}/{count}");
                let begins_number = matches!(self.text.get(at), Some(b'-' | b'0'..=b'9'));
                if begins_number && not_finite(&self.text[at..]).is_none() {
                    self.parser_error(pointer, &error)
                } else {
                    self.wrong(pointer, "a number")
                }
            }
            // `01` and `1_000`: the fault is in the number just read, more likely than in a comma.
            Cause::Step(error)
                if error.error_type == JiterErrorType::JsonError(JsonErrorType::ExpectedListCommaOrEnd) =>
            {
                self.parser_error(format!("{list}/{}", count - 1), &error)
            }
            Cause::Step(error) => self.parser_error(list, &error),
        }
    }

    /// An object with base64; the text of `data` is not looked at.
    fn packed(&mut self, pointer: &'static str, rows_only: bool) -> Result<Packed, JsonError> {
        let at = |field: &str| format!("{pointer}/{field}");
        let (mut shape, mut dtype, mut layout, mut data) = (None, None, None, None);
        let mut key = self.first_key(pointer, PACKED)?;
        while let Some(name) = key {
            let place = at(name);
            match name {
                "shape" => self.fill(&mut shape, &place, |reader| reader.shape(&place, rows_only))?,
                "dtype" => self.fill(&mut dtype, &place, |reader| reader.word::<Dtype>(&place))?,
                "order" => self.fill(&mut layout, &place, |reader| reader.word::<Layout>(&place))?,
                _ => self.fill(&mut data, &place, |reader| reader.span(&place))?,
            }
            key = self.next_key(pointer, PACKED)?;
        }
        let form = "this object is {\"shape\": [rows, columns], \"dtype\": \"<f8\", \"data\": \"..\"}";
        let shape = shape.ok_or_else(|| missing(&at("shape"), form))?;
        let dtype = dtype.ok_or_else(|| missing(&at("dtype"), form))?;
        let data = data.ok_or_else(|| missing(&at("data"), form))?;
        Ok(Packed { pointer, shape, dtype, layout: layout.unwrap_or_default(), data })
    }

    fn shape(&mut self, pointer: &str, rows_only: bool) -> Result<Shape, JsonError> {
        let wanted = if rows_only { "[rows, columns]" } else { "[rows, columns] or [length]" };
        if self.peek(pointer)? != Peek::Array {
            return Err(self.wrong(pointer, wanted));
        }
        let at = self.jiter.current_index();
        let mut sizes = Vec::new();
        let mut next = self.jiter.known_array().map_err(|error| self.parser_error(pointer, &error))?;
        while let Some(peek) = next {
            let size = match self.jiter.known_int(peek) {
                Ok(NumberInt::Int(size)) => usize::try_from(size).ok(),
                _ => None,
            };
            match size {
                Some(size) if sizes.len() < 2 => sizes.push(size),
                Some(_) => break,
                None => {
                    return Err(self.error(
                        format!("{pointer}/{}", sizes.len()),
                        at,
                        "not a whole number from 0 on, or too large",
                    ));
                }
            }
            next = self.jiter.array_step().map_err(|error| self.parser_error(pointer, &error))?;
        }
        match (sizes[..].as_ref(), next) {
            (&[length], None) if !rows_only => Ok(Shape::Vector(length)),
            (&[rows, cols], None) => Ok(Shape::Matrix(rows, cols)),
            _ => Err(self.error(pointer, at, format_args!("the shape must be {wanted}"))),
        }
    }

    /// Where the characters of a string lie.
    fn span(&mut self, pointer: &str) -> Result<Range<usize>, JsonError> {
        if self.peek(pointer)? != Peek::String {
            return Err(self.wrong(pointer, "a string of base64"));
        }
        let start = self.jiter.current_index() + 1;
        match self.jiter.known_bytes() {
            Ok(data) => Ok(start..start + data.len()),
            Err(error) => Err(self.parser_error(pointer, &error)),
        }
    }

    /// A string that is one of a few.
    fn word<T: for<'de> Deserialize<'de>>(&mut self, pointer: &str) -> Result<T, JsonError> {
        if self.peek(pointer)? != Peek::String {
            return Err(self.wrong(pointer, "a string"));
        }
        let at = self.jiter.current_index();
        let (_, word) = self.jiter.known_bytes().map(quote).map_err(|error| self.parser_error(pointer, &error))?;
        let word = word.ok_or_else(|| self.error(pointer, at, "not UTF-8"))?;
        let read = T::deserialize(IntoDeserializer::<serde::de::value::Error>::into_deserializer(word.as_str()));
        read.map_err(|error| self.error(pointer, at, error))
    }

    fn flag(&mut self, pointer: &str) -> Result<bool, JsonError> {
        match self.peek(pointer)? {
            peek @ (Peek::True | Peek::False) => {
                self.jiter.known_bool(peek).map_err(|error| self.parser_error(pointer, &error))
            }
            _ => Err(self.wrong(pointer, "true or false")),
        }
    }

    fn milliseconds(&mut self, pointer: &str) -> Result<u64, JsonError> {
        let peek = self.peek(pointer)?;
        let at = self.jiter.current_index();
        match self.jiter.known_int(peek) {
            Ok(NumberInt::Int(value @ 1..)) => Ok(value.unsigned_abs()),
            _ => {
                let found = describe(&self.text[at..]);
                Err(self.error(
                    pointer,
                    at,
                    format_args!("{found} where a whole number of milliseconds from 1 on should be"),
                ))
            }
        }
    }

    fn certificate(&mut self) -> Result<Certificate, JsonError> {
        let pointer = "/certificate";
        let peek = self.peek(pointer)?;
        let start = self.jiter.current_index();
        // serde would take a list for a struct.
        if peek != Peek::Object {
            return Err(self.wrong(pointer, "an object {..}"));
        }
        self.jiter.known_skip(peek).map_err(|error| self.parser_error(pointer, &error))?;
        serde_json::from_slice(self.jiter.slice_to_current(start)).map_err(|error| {
            let (_, reason) = quote(error.to_string().as_bytes());
            self.error(pointer, start, format_args!("not a certificate: {}", reason.unwrap_or_default()))
        })
    }
}

/// Length, and as text: without escapes, and cut where it is longer than anything known. `None` if it is not UTF-8.
fn quote(raw: &[u8]) -> (usize, Option<String>) {
    let text = if raw.len() > QUOTED_BYTES * 2 {
        Some(format!("{}...", String::from_utf8_lossy(&raw[..QUOTED_BYTES])))
    } else if raw.contains(&b'\\') {
        serde_json::from_slice(&[b"\"", raw, b"\""].concat()).ok()
    } else {
        str::from_utf8(raw).ok().map(str::to_owned)
    };
    (raw.len(), text)
}

/// What people write for the numbers that JSON has not, at the text's beginning.
fn not_finite(text: &[u8]) -> Option<&'static str> {
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let begins = |word: &str| text.get(sign..sign + 3).is_some_and(|start| start.eq_ignore_ascii_case(word.as_bytes()));
    if begins("nan") {
        Some("NaN")
    } else if begins("inf") {
        Some(if text[0] == b'-' { "-Infinity" } else { "Infinity" })
    } else {
        None
    }
}

/// What kind of value begins here, for people.
fn describe(text: &[u8]) -> String {
    if let Some(name) = not_finite(text) {
        return format!(
            "{name}, which JSON has no number for and no system can be solved with: leave it out or replace it,"
        );
    }
    let kind = match text.first() {
        Some(b'"') => "a string",
        Some(b'[') => "a list",
        Some(b'{') => "an object",
        Some(b't' | b'f') => "true or false",
        Some(b'n' | b'N') => "null",
        Some(b'-' | b'0'..=b'9') => "a number",
        Some(_) => "something that is not JSON",
        None => "the text's end",
    };
    kind.to_owned()
}
