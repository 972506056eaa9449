//! How the numbers of a system become bytes and numbers again: our binary form, our JSON, base64 in our JSON, and beside
//! them the JSON crates that are said to be fast, each with the whole document.
//!
//! `cargo bench --bench codec`, about a minute and a half; N = 5000 as well, some five minutes more and 3.3 GB, with
//! `RABBITRY_BENCH_LARGE=1`. `-- --test` runs everything once, in seconds. Read ratios within one run. All rates count the
//! bytes of the binary payload, 8 for each number, so that they compare: a text of 20 MB read in 0.1 s counts as 80 MB/s.
//!
//! The crates get the best of it. They read into `{a: Vec<Vec<f64>>, b: Vec<f64>}`, which nothing has to be put together
//! from, and check no shapes; ours give a matrix in one piece, and [`System::check`] is in their times, as it is in a
//! worker's. They write into a vector that has the right length from the start. simd-json has its buffers from the last
//! time. sonic-rs takes AVX2 only where the compiler may (`RUSTFLAGS="-C target-cpu=native"`), which makes no difference to
//! lists of numbers. A crate that does not bring back every bit of these numbers stops the bench before the clock starts.
//!
//! Making the input and dropping the result is not timed. Page faults are: our JSON reserves room for the longest numbers
//! there are, which from some megabytes on the allocator takes from the system and gives back each time.

use std::fmt::Debug;
use std::hint::black_box;
use std::time::Duration;

use base64_simd::STANDARD;
use bytes::Bytes;
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, SamplingMode, Throughput};
use rabbitry::task::{Blob, Format, Task};
use rabbitry::tasks::solve::{Base64, Matrix, Order, System};
use serde::{Deserialize, Serialize};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let large = std::env::var_os("RABBITRY_BENCH_LARGE").is_some_and(|value| value == "1");
    for n in [100, 1000].into_iter().chain(large.then_some(5000)) {
        let case = Case::new(n);
        println!("N={n}: {} bytes, {} of JSON, {} with base64", case.bytes, case.json.len(), case.base64.len());
        write(&mut case.group(&mut criterion, "write"), &case);
        read(&mut case.group(&mut criterion, "read"), &case);
    }
    criterion.final_summary();
}

/// A system as a whole-document crate has it.
#[derive(Serialize, Deserialize)]
struct Document {
    a: Vec<Vec<f64>>,
    b: Vec<f64>,
}

/// One system in all its forms.
struct Case {
    n: usize,
    /// As it comes from LAPACK's world: A by columns.
    by_columns: System,
    /// As it comes from NumPy's, and lies in a document.
    by_rows: System,
    document: Document,
    /// Of the binary payload.
    bytes: u64,
    json: Vec<u8>,
    base64: Vec<u8>,
}

impl Case {
    fn new(n: usize) -> Self {
        let by_columns = System::random(n, 1, 1);
        let rows: Vec<Vec<f64>> = by_columns.a.view().rows().into_iter().map(|row| row.to_vec()).collect();
        let a = Matrix::new(n, n, Order::RowMajor, rows.concat()).expect("n x n numbers");
        // As bytes, so that clones are the same memory: cloning is not what is measured.
        let shared = Matrix::from_bytes(n, n, Order::RowMajor, a.into_bytes()).expect("n x n numbers");
        let by_rows = System::new(shared, by_columns.b.clone());
        let document = Document { a: rows, b: by_columns.b.as_slice().to_vec() };
        let json = encoded(by_rows.clone(), Format::Json).payload.concat();
        let base64 = base64(&by_rows, 0);
        let bytes = by_columns.clone().encode(Format::Binary).expect("a sound system").blob.payload_bytes();
        let case = Case { n, by_columns, by_rows, document, bytes, json, base64 };
        case.check();
        case
    }

    /// That every form is what the others are, to the bit, and that every crate reads it so.
    fn check(&self) {
        let expected = bits(self.document.a.iter().flatten().chain(&self.document.b));
        let flat = |Document { a, b }: Document| bits(a.iter().flatten().chain(&b));
        assert_eq!(flat(serde_json::from_slice(&self.json).expect("JSON")), expected, "serde_json");
        assert_eq!(flat(sonic_rs::from_slice(&self.json).expect("JSON")), expected, "sonic-rs");
        assert_eq!(flat(simd_json::serde::from_slice(&mut self.json.clone()).expect("JSON")), expected, "simd-json");
        for text in [&self.json, &self.base64, &base64_by_hand(&self.by_rows)] {
            let system = ours(Format::Json, &[], text.clone().into());
            let rows = system.a.view();
            assert_eq!(bits(rows.iter().chain(system.b.as_slice())), expected, "ours");
        }
        let written = [
            serde_json::to_vec(&self.document).expect("numbers"),
            sonic_rs::to_vec(&self.document).expect("numbers"),
            simd_json::serde::to_vec(&self.document).expect("numbers"),
        ];
        for text in written {
            assert_eq!(flat(serde_json::from_slice(&text).expect("JSON")), expected);
        }
    }

    fn group<'a>(&self, criterion: &'a mut Criterion, what: &str) -> BenchmarkGroup<'a, WallTime> {
        let mut group = criterion.benchmark_group(format!("{what} N={}", self.n));
        group.throughput(Throughput::BytesDecimal(self.bytes));
        group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
        if self.n >= 1000 {
            // As many calls in every sample: growing numbers of them take longer than that.
            group.sampling_mode(SamplingMode::Flat);
        }
        group
    }
}

fn bits<'a>(numbers: impl Iterator<Item = &'a f64>) -> u64 {
    // In order: a sum alone would not see two that are swapped.
    numbers.fold(0, |hash: u64, number| (hash.rotate_left(5) ^ number.to_bits()).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn write(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let mut bench_ours = |name: &str, system: &System, format| {
        group.bench_function(name, |bencher| {
            bencher.iter_batched(|| system.clone(), |system| encoded(system, format), BatchSize::LargeInput);
        });
    };
    bench_ours("binary", &case.by_columns, Format::Binary);
    bench_ours("JSON", &case.by_rows, Format::Json);
    bench_ours("JSON, A by columns", &case.by_columns, Format::Json);
    let (system, document) = (&case.by_rows, &case.document);
    let mut bench = |name: &str, write: &dyn Fn() -> Vec<u8>| {
        group.bench_function(name, |bencher| bencher.iter_batched(|| (), |()| write(), BatchSize::LargeInput));
    };
    bench("base64", &|| base64(black_box(system), case.base64.len()));
    bench("base64-simd by hand", &|| base64_by_hand(black_box(system)));
    let room = || Vec::with_capacity(case.json.len());
    bench("serde_json", &|| {
        let mut text = room();
        done(serde_json::to_writer(&mut text, black_box(document)));
        text
    });
    bench("sonic-rs", &|| {
        let mut text = room();
        done(sonic_rs::to_writer(&mut text, black_box(document)));
        text
    });
    bench("simd-json", &|| {
        let mut text = room();
        done(simd_json::serde::to_writer(&mut text, black_box(document)));
        text
    });
}

fn read(group: &mut BenchmarkGroup<'_, WallTime>, case: &Case) {
    let binary = encoded(case.by_columns.clone(), Format::Binary);
    group.bench_function("binary", |bencher| {
        let payload = Bytes::from(binary.payload.concat());
        let payload = || payload.clone();
        bencher.iter_batched(payload, |payload| ours(Format::Binary, &binary.params, payload), BatchSize::LargeInput);
    });
    // Everybody gets a text of its own, because some write into it.
    for (name, text) in [("JSON", &case.json), ("base64", &case.base64)] {
        group.bench_function(name, |bencher| {
            let text = || Bytes::from(text.clone());
            bencher.iter_batched(text, |text| ours(Format::Json, &[], text), BatchSize::LargeInput);
        });
    }
    let mut bench = |name: &str, read: &mut dyn FnMut(&mut [u8]) -> Document| {
        group.bench_function(name, |bencher| {
            let read = |mut text: Vec<u8>| (read(&mut text), text);
            bencher.iter_batched(|| case.json.clone(), read, BatchSize::LargeInput);
        });
    };
    bench("serde_json", &mut |text| done(serde_json::from_slice(text)));
    bench("sonic-rs", &mut |text| done(sonic_rs::from_slice(text)));
    let mut buffers = simd_json::Buffers::new(case.json.len());
    bench("simd-json", &mut |text| done(simd_json::serde::from_slice_with_buffers(text, &mut buffers)));
}

fn done<T, E: Debug>(result: Result<T, E>) -> T {
    result.expect("a sound system")
}

fn encoded(system: System, format: Format) -> Blob {
    done(system.encode(format)).blob
}

/// From the bytes of a task to a system that a solver may begin with.
fn ours(format: Format, params: &[u8], payload: Bytes) -> System {
    let system = done(System::from_blob(Blob { format, params: params.to_vec(), payload: vec![payload] }));
    done(system.check());
    system
}

/// The library's matrices in base64, as a client in Rust writes them.
fn base64(system: &System, room: usize) -> Vec<u8> {
    #[derive(Serialize)]
    struct Packed<'a> {
        a: Base64<'a>,
        b: Base64<'a>,
    }
    let mut text = Vec::with_capacity(room);
    done(serde_json::to_writer(&mut text, &Packed { a: Base64(&system.a), b: Base64(&system.b) }));
    text
}

/// The same text put together from strings, which is the least it can cost.
fn base64_by_hand(system: &System) -> Vec<u8> {
    let (n, a, b) = (system.a.rows(), system.a.as_slice(), system.b.as_slice());
    let mut text = String::with_capacity(STANDARD.encoded_length((a.len() + b.len()) * 8) + 256);
    text.push_str(&format!(r#"{{"a":{{"shape":[{n},{n}],"dtype":"<f8","order":"C","data":""#));
    STANDARD.encode_append(bytemuck::cast_slice::<f64, u8>(a), &mut text);
    text.push_str(&format!(r#""}},"b":{{"shape":[{n}],"dtype":"<f8","order":"C","data":""#));
    STANDARD.encode_append(bytemuck::cast_slice::<f64, u8>(b), &mut text);
    text.push_str(r#""}}"#);
    text.into_bytes()
}
