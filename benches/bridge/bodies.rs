//! The same systems in every form that the bridge reads.

use base64_simd::STANDARD;
use bytes::Bytes;
use rabbitry::task::{Format, Task};
use rabbitry::tasks::solve::{Base64, System};
use serde::Serialize;

use super::client::Body;

/// The forms of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Two .npy files, as `requests` or curl send them.
    Multipart,
    /// application/x-rabbitry.
    Raw,
    /// Lists of numbers.
    Json,
    /// JSON with the raw numbers in base64.
    Base64,
}

impl Form {
    pub const ALL: [Form; 4] = [Form::Multipart, Form::Raw, Form::Json, Form::Base64];

    pub fn name(self) -> &'static str {
        match self {
            Form::Multipart => "multipart",
            Form::Raw => "raw",
            Form::Json => "JSON lists",
            Form::Base64 => "JSON base64",
        }
    }

    /// A system, and the answer wanted in the same manner.
    pub fn body(self, system: System) -> Body {
        let accept = if matches!(self, Form::Multipart | Form::Raw) { "application/x-npy" } else { "application/json" };
        let (headers, pieces) = match self {
            Form::Multipart => multipart(system),
            Form::Raw => {
                let params = STANDARD.encode_to_string(system.to_params());
                let pieces = system.encode(Format::Binary).expect("a legal system").blob.payload;
                (format!("content-type: application/x-rabbitry\r\nrabbitry-params: {params}\r\n"), pieces)
            }
            Form::Json => {
                let pieces = system.encode(Format::Json).expect("a legal system").blob.payload;
                ("content-type: application/json\r\n".to_owned(), pieces)
            }
            Form::Base64 => {
                #[derive(Serialize)]
                struct Packed<'a> {
                    a: Base64<'a>,
                    b: Base64<'a>,
                }
                let packed = Packed { a: Base64(&system.a), b: Base64(&system.b) };
                let text = serde_json::to_vec(&packed).expect("numbers");
                ("content-type: application/json\r\n".to_owned(), vec![text.into()])
            }
        };
        Body { headers: format!("{headers}accept: {accept}\r\n"), pieces }
    }

    /// Several systems, all different.
    pub fn bodies(self, n: usize, count: u64) -> Vec<Body> {
        (0..count).map(|seed| self.body(System::random(n, 1, seed))).collect()
    }
}

fn multipart(system: System) -> (String, Vec<Bytes>) {
    let boundary = "----rabbitry-7d2f1c";
    let n = system.a.rows();
    let part = |name: &str| {
        format!(
            "\r\n--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"{name}.npy\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        )
    };
    let pieces = vec![
        Bytes::from(part("a")[2..].to_owned()),
        npy_head(true, &format!("({n}, {n})")),
        system.a.into_bytes(),
        part("b").into(),
        npy_head(false, &format!("({n},)")),
        system.b.into_bytes(),
        format!("\r\n--{boundary}--\r\n").into(),
    ];
    (format!("content-type: multipart/form-data; boundary={boundary}\r\n"), pieces)
}

/// What `numpy.save` writes before the numbers.
fn npy_head(by_columns: bool, shape: &str) -> Bytes {
    let order = if by_columns { "True" } else { "False" };
    let mut head = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    head.extend(format!("{{'descr': '<f8', 'fortran_order': {order}, 'shape': {shape}, }}").bytes());
    head.resize(127, b' ');
    head.push(b'\n');
    head.into()
}
