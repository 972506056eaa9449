use proptest::prelude::*;

use super::super::{AnswerParams, Certificate, Choice, How, Matrix, Method, Order, TaskParams};
use super::*;
use crate::task::{Blob, Format, Task};

fn read(json: &str) -> Result<(System, Wishes), JsonError> {
    System::from_json(json.into())
}

fn refusal(json: impl Into<Vec<u8>>) -> (String, String) {
    let JsonError { field, reason } = System::from_json(json.into()).unwrap_err();
    (field.unwrap_or_default(), reason)
}

fn certificate() -> Certificate {
    Certificate {
        method: Method::MixedCholesky,
        tried: vec![Method::Mixed, Method::Lu],
        backward_error: 1e-17,
        rcond: 1e-3,
        forward_error_bound: None,
        iterations: 3,
        threads: 2,
        factor_seconds: 0.1,
        solve_seconds: 0.2,
        reproducible: Some("mkl".into()),
    }
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    base64_simd::STANDARD.encode_to_string(bytes)
}

fn base64_of(numbers: &[f64]) -> String {
    base64(bytemuck::cast_slice::<f64, u8>(numbers))
}

fn all_refused<const N: usize>(table: [(String, &str, &str); N]) {
    for (text, field, reason) in table {
        let (at, said) = refusal(text.clone());
        assert_eq!(at, field, "{text}: {said}");
        assert!(said.contains(reason), "{text}: {said}");
    }
}

/// To the bit, and in shape.
fn same(left: &Matrix, right: &Matrix) -> bool {
    let bits = |matrix: &Matrix| matrix.view().iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    let shape = |matrix: &Matrix| (matrix.rows(), matrix.cols(), matrix.is_vector());
    shape(left) == shape(right) && bits(left) == bits(right)
}

#[test]
fn a_system_is_read_as_people_write_it() {
    let (system, wishes) = read("\n{\"b\": [3, 4.5], \t\"a\": [[1, -2], [0.5, 1e300]]}\r\n").unwrap();
    assert_eq!(system.a, ndarray::array![[1.0, -2.0], [0.5, 1e300]].into());
    assert_eq!(system.b, Matrix::vector(vec![3.0, 4.5]));
    assert_eq!((system.how, wishes), (How::default(), Wishes::default()));
    let (zeros, _) = read(r#"{"a": [[1]], "b": [-0, -0.0, -0e5, -1e-999]}"#).unwrap();
    assert!(zeros.b.as_slice().iter().all(|zero| zero.to_bits() == (-0.0_f64).to_bits()));
    let (several, _) = read(r#"{"a": [[1]], "b": [[3, 4, 5]]}"#).unwrap();
    assert_eq!((several.b.rows(), several.b.cols(), several.b.is_vector()), (1, 3, false));
    let all = r#"{"\u0061":[[1]],"b":[1],"method":"lst\u0073q","reproducible":true,"priority":"high","deadline_ms":5}"#;
    let (system, wishes) = read(all).unwrap();
    assert_eq!(system.how, How { method: Choice::Lstsq, reproducible: true });
    assert_eq!(wishes, Wishes { priority: Some(Priority::High), deadline_ms: Some(5) });
}

#[test]
fn whole_numbers_are_read_to_the_last_digit() {
    for number in [1, 9, 10, 123_456_789, 9_007_199_254_740_993, 12_345_678_901_234_567, 999_999_999_999_999_999] {
        let (_, wishes) = read(&format!(r#"{{"a": [[1]], "b": [1], "deadline_ms": {number}}}"#)).unwrap();
        assert_eq!(wishes.deadline_ms, Some(number));
    }
}

#[test]
fn a_refused_number_has_the_place_and_a_reason() {
    all_refused([
        (r#"{"a": [[1, 2], [3]], "b": [1, 2]}"#.into(), "/a/1", "row 1 has length 1 and row 0 has length 2"),
        (
            r#"{"a": [[1, 2], [3, null]], "b": [1]}"#.into(),
            "/a/1/1",
            "null where a number should be (line 1, column 20)",
        ),
        (r#"{"a": [[1, 2], [3, "4"]], "b": [1, 2]}"#.into(), "/a/1/1", "a string where a number"),
        (r#"{"a": [[1, [2]]], "b": [1]}"#.into(), "/a/0/1", "a list where a number"),
        (r#"{"a": [[1], 2], "b": [1]}"#.into(), "/a/1", "a number where a row"),
        (r#"{"a": [1], "b": [1]}"#.into(), "/a/0", "a number where a row"),
        (r#"{"a": 1, "b": [1]}"#.into(), "/a", "list of rows"),
        (r#"{"a": [[1]], "b": 1}"#.into(), "/b", "list of numbers"),
        (r#"{"a": [[1]], "b": [true]}"#.into(), "/b/0", "true or false where a number"),
        (r#"{"a": [[1]], "b": [1, {}]}"#.into(), "/b/1", "an object where a number"),
        (r#"{"a": [[1]], "b": [1, [2]]}"#.into(), "/b/1", "a list where a number"),
        ("{\"a\": [[1,\n  NaN]], \"b\": [1]}".into(), "/a/0/1", "NaN, which JSON has no number for"),
        ("{\"a\": [[1,\n  nan]], \"b\": [1]}".into(), "/a/0/1", "(line 2, column 3)"),
        (r#"{"a": [[Infinity]], "b": [1]}"#.into(), "/a/0/0", "Infinity, which JSON has no number for"),
        (r#"{"a": [[1]], "b": [0, -Infinity]}"#.into(), "/b/1", "-Infinity, which"),
        (r#"{"a": [[1]], "b": [[0, -inf]]}"#.into(), "/b/0/1", "-Infinity, which"),
        (
            r#"{"a": [[1, -1e999]], "b": [1]}"#.into(),
            "/a/0/1",
            "-1e999 is beyond f64, which ends at 1.8e308 (line 1, column 12)",
        ),
        (r#"{"a": [[01]], "b": [1]}"#.into(), "/a/0/0", "not JSON"),
        (r#"{"a": [[1, 1_000]], "b": [1]}"#.into(), "/a/0/1", "not JSON"),
        (r#"{"a": [[1.]], "b": [1]}"#.into(), "/a/0/0", "not JSON"),
        (r#"{"a": [[+1]], "b": [1]}"#.into(), "/a/0/0", "not JSON"),
        (r#"{"a": [[1,]], "b": [1]}"#.into(), "/a/0", "trailing comma"),
        (r#"{"a": [[1],], "b": [1]}"#.into(), "/a", "trailing comma"),
    ]);
}

#[test]
fn a_refused_field_has_the_place_and_a_reason() {
    all_refused([
        (r#"{"a": [[1]], "b": [1], "methd": 1}"#.into(), "/methd", "unknown field \"methd\"; known are a, b, method"),
        (r#"{"a": [[1]], "b": [1], "x/y~": 1}"#.into(), "/x~1y~0", "unknown field"),
        (r#"{"a": [[1]], "b": [1], "a": [[1]]}"#.into(), "/a", "twice (line 1, column 24)"),
        (r#"{"a": [[1]], "b": [1], "method": "lu", "method": "lu"}"#.into(), "/method", "twice"),
        (r#"{"a": [[1]], "b": [1], "priority": "low", "priority": "low"}"#.into(), "/priority", "twice"),
        (r#"{"a": [[1]], "b": [1], "method": "qr"}"#.into(), "/method", "lstsq"),
        (r#"{"a": [[1]], "b": [1], "method": null}"#.into(), "/method", "null where a string"),
        (r#"{"a": [[1]], "b": [1], "reproducible": 1}"#.into(), "/reproducible", "true or false should"),
        (r#"{"a": [[1]], "b": [1], "reproducible": tru}"#.into(), "/reproducible", "not JSON"),
        (r#"{"a": [[1]], "b": [1], "priority": "urgent"}"#.into(), "/priority", "normal"),
        (r#"{"a": [[1]], "b": [1], "deadline_ms": 0}"#.into(), "/deadline_ms", "from 1 on"),
        (r#"{"a": [[1]], "b": [1], "deadline_ms": -5}"#.into(), "/deadline_ms", "from 1 on"),
        (r#"{"a": [[1]], "b": [1], "deadline_ms": 1.5}"#.into(), "/deadline_ms", "from 1 on"),
        (r#"{"a": [[1]], "b": [1], "deadline_ms": 99999999999999999999}"#.into(), "/deadline_ms", "from 1 on"),
        (r#"{"a": [[1]], "b": [1], "deadline_ms": "5"}"#.into(), "/deadline_ms", "a string where"),
        (r#"{"a": [[1]]}"#.into(), "/b", "missing"),
        (r#"{"b": [1]}"#.into(), "/a", "missing"),
    ]);
}

#[test]
fn a_refused_text_is_cut_short_or_too_long_or_no_object() {
    all_refused([
        (String::new(), "", "cut short"),
        ("[[[1]], [1]]".into(), "", "a list where an object"),
        ("null".into(), "", "an object"),
        (r#"{"a": [[1]], "b": [1]} 1"#.into(), "", "nothing may follow"),
        (r#"{"a": [[1]], "b": [1],}"#.into(), "", "trailing comma"),
        (r#"{"a": [[1]], "b": [1]"#.into(), "", "cut short"),
        (r#"{"a": [[1]], "b": [1"#.into(), "/b", "cut short"),
        (r#"{"a": [[1, "#.into(), "/a/0", "cut short"),
    ]);
}

#[test]
fn refused_base64_has_the_place_and_a_reason() {
    let f8 = |fields: &str| format!(r#"{{"b": [1], "a": {{{fields}}}}}"#);
    let one = base64_of(&[1.0]);
    all_refused([
        (f8(r#""shape": [1, 1], "dtype": "<f8""#), "/a/data", "missing"),
        (f8(&format!(r#""shape": [1, 1], "data": "{one}""#)), "/a/dtype", "missing"),
        (f8(&format!(r#""dtype": "<f8", "data": "{one}""#)), "/a/shape", "missing"),
        (f8(r#""dtype": ">f8""#), "/a/dtype", "`<f4`"),
        (f8(r#""order": "K""#), "/a/order", "`F`"),
        (f8(r#""data": 5"#), "/a/data", "a number where a string of base64"),
        (f8(r#""data": "", "data": """#), "/a/data", "twice"),
        (f8(r#""date": "x""#), "/a/date", "known are shape, dtype, order, data"),
        (f8(r#""shape": [1]"#), "/a/shape", "[rows, columns]"),
        (f8(r#""shape": [1, 1, 1]"#), "/a/shape", "[rows, columns]"),
        (f8(r#""shape": [1, -1]"#), "/a/shape/1", "whole number"),
        (f8(r#""shape": [1.5, 1]"#), "/a/shape/0", "whole number"),
        (f8(r#""shape": "1""#), "/a/shape", "a string where"),
        (
            f8(&format!(r#""shape": [2, 1], "dtype": "<f8", "data": "{one}""#)),
            "/a/data",
            "8 bytes are not 2 x 1 numbers of 8",
        ),
        (
            f8(&format!(r#""shape": [1, 1], "dtype": "<f4", "data": "{one}""#)),
            "/a/data",
            "8 bytes are not 1 x 1 numbers of 4",
        ),
        (f8(&format!(r#""shape": [4294967296, 4294967296], "dtype": "<f8", "data": "{one}""#)), "/a/data", "not"),
        (f8(r#""shape": [0, 9223372036854775808]"#), "/a/shape/1", "whole number"),
        (f8(r#""shape": [1, 1], "dtype": "<f8", "data": "AAAAAAAA8D8""#), "/a/data", "fours"),
        (f8(r#""shape": [1, 1], "dtype": "<f8", "data": "AAAA AAA8D8=""#), "/a/data", "whitespace"),
        (f8(r#""shape": [1, 1], "dtype": "<f8", "data": "AAAA\nAA8D8=""#), "/a/data", "whitespace"),
        (f8(r#""shape": [1, 1], "dtype": "<f8", "data": "AAAA_AAA8D8=""#), "/a/data", "not base64"),
        (f8(r#""shape": [1, 1], "dtype": "<f8", "data": "AAA=AAAA8D8=""#), "/a/data", "not base64"),
        (f8(r#""shape": [1, 1], "dtype": "<f4", "data": "A===AA==""#), "/a/data", "not base64"),
        (f8(r#""shape": [1, 1], "dtype": "<f8", "data": "é AAAAA8D8=""#), "/a/data", "not base64"),
    ]);
}

#[test]
fn what_is_no_text_or_endless_is_refused_without_an_echo() {
    let (field, reason) = refusal(b"{\"a\xff\": 1}".to_vec());
    assert!(field.is_empty() && reason.contains("UTF-8"), "{reason}");
    let (field, reason) = refusal(b"{\"a\": [[1]], \"method\": \"l\xff\"}".to_vec());
    assert!(field == "/method" && reason.contains("UTF-8"), "{reason}");
    for long in ["é".repeat(99_999), "\\u0061".repeat(99_999), "[".repeat(99_999), "{\"a\":".repeat(99_999)] {
        for text in [
            long.clone(),
            format!("{{\"a\": {long}"),
            format!(r#"{{"a": [["{long}"]], "b": [1]}}"#),
            format!(r#"{{"{long}": 1}}"#),
            format!(r#"{{"method": "{long}"}}"#),
            format!(r#"{{"a": {{"shape": {long}}}}}"#),
            format!(r#"{{"a": [[{}]], "b": [1]}}"#, "9".repeat(99_999)),
            format!(r#"{{"a": [[1{}]], "b": [1]}}"#, "é".repeat(99_999)),
        ] {
            let (field, reason) = refusal(text);
            assert!(field.len() + reason.len() < 600, "{field} {reason}");
        }
        let solution = format!(r#"{{"x": [1], "certificate": {long}}}"#);
        let error = Solution::from_json(solution.into()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("/certificate"), "{error}");
    }
}

#[test]
fn a_task_in_a_message_has_no_wishes() {
    for (wish, word) in [("\"priority\": \"low\"", "property priority"), ("\"deadline_ms\": 5", "deadline_unix_ms")] {
        let error = read_task(format!(r#"{{"a": [[1]], "b": [1], {wish}}}"#).into()).unwrap_err().to_string();
        assert!(error.contains("property of the message") && error.contains(word), "{error}");
    }
}

#[test]
fn a_solution_is_refused_with_its_place() {
    let good = serde_json::to_string(&certificate()).unwrap();
    for (text, field) in [
        (format!(r#"{{"x": [1], "certificate": {good}, "certificate": {good}}}"#), "/certificate"),
        (r#"{"x": [1], "certificate": ["lu", [], 0, 0, 0, 0, 0, 0, 0, null]}"#.into(), "/certificate"),
        (r#"{"x": [1], "certificate": {"method": "lu"}}"#.into(), "/certificate"),
        (r#"{"x": [1]}"#.into(), "/certificate"),
        (format!(r#"{{"certificate": {good}}}"#), "/x"),
        (format!(r#"{{"x": [[1], [NaN]], "certificate": {good}}}"#), "/x/1/0"),
        (format!(r#"{{"x": [1], "y": [2], "certificate": {good}}}"#), "/y"),
    ] {
        let error = Solution::from_json(text.clone().into()).unwrap_err();
        assert_eq!(error.field.as_deref(), Some(field), "{text}: {error}");
    }
}

#[test]
fn base64_is_read_in_any_order_of_fields_and_with_escaped_slashes() {
    let numbers = [f64::from_bits(u64::MAX >> 2), -0.0, 5e-324, f64::MAX, 3.0, -1.5];
    let data = base64_of(&numbers).replace('/', "\\/");
    assert!(data.contains("\\/"));
    let fields = ["\"shape\": [2, 3]".into(), "\"dtype\": \"<f8\"".into(), format!("\"data\": \"{data}\"")];
    for [i, j, k] in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let a = format!("{{{}, {}, {}}}", fields[i], fields[j], fields[k]);
        for text in [format!(r#"{{"a": {a}, "b": [1]}}"#), format!(r#"{{"b": [1], "a": {a}}}"#)] {
            let expected = Matrix::new(2, 3, Order::RowMajor, numbers.to_vec()).unwrap();
            assert!(same(&read(&text).unwrap().0.a, &expected), "{text}");
        }
    }
}

#[test]
fn singles_become_doubles_beside_anything() {
    let singles: Vec<f32> = (0..700_000).map(|i| (i as f32).sin()).collect();
    let doubles: Vec<f64> = singles.iter().copied().map(f64::from).collect();
    let f4 = base64(bytemuck::cast_slice::<f32, u8>(&singles));
    let f8 = base64_of(&doubles);
    let object = |dtype: &str, data: &str| format!(r#"{{"shape": [7, 100000], "dtype": "{dtype}", "data": "{data}"}}"#);
    for (a, b) in [(("<f4", &f4), ("<f8", &f8)), (("<f8", &f8), ("<f4", &f4)), (("<f4", &f4), ("<f4", &f4))] {
        let text = format!(r#"{{"a": {}, "b": {}}}"#, object(a.0, a.1), object(b.0, b.1));
        let (system, _) = read(&text).unwrap();
        assert!(system.a.as_slice() == doubles && system.b.as_slice() == doubles);
    }
    let padded = format!("{}AA=={}", &f4[..1 << 20], &f4[(1 << 20) + 4..]);
    let (field, _) = refusal(format!(r#"{{"b": [1], "a": {}}}"#, object("<f4", &padded)));
    assert_eq!(field, "/a/data");
}

#[test]
fn base64_is_decoded_where_the_text_lies() {
    let numbers: Vec<f64> = (0..1000).map(f64::from).collect();
    for spaces in 0..9 {
        let data = base64_of(&numbers);
        let object = format!(r#"{{"shape": [1000], "dtype": "<f8", "data": "{data}"}}"#);
        let text = format!(
            r#"{}{{"a": {{"shape": [1000, 1], "dtype": "<f8", "data":"{data}"}}, "b": {object}}}"#,
            " ".repeat(spaces)
        );
        let text = Vec::from(text);
        let inside = text.as_ptr_range();
        let (System { a, b, .. }, _) = System::from_json(text).unwrap();
        assert_eq!(b.as_slice().as_ptr(), a.as_slice().as_ptr_range().end, "one run");
        for matrix in [a, b] {
            assert!(inside.contains(&matrix.as_slice().as_ptr().cast()), "with {spaces} spaces");
            assert_eq!(matrix.as_slice(), numbers);
        }
    }
}

#[test]
fn an_order_is_said_and_kept() {
    let numbers: Vec<f64> = (0..6).map(f64::from).collect();
    let form = |order: &str| {
        let data = base64_of(&numbers);
        read(&format!(r#"{{"b": [1], "a": {{"shape": [2, 3], "dtype": "<f8"{order}, "data": "{data}"}}}}"#))
            .unwrap()
            .0
            .a
    };
    assert_eq!(form(""), ndarray::array![[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]].into());
    assert_eq!(form(r#", "order": "C""#), form(""));
    assert_eq!(form(r#", "order": "F""#), ndarray::array![[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]].into());
}

#[test]
fn a_solution_in_json_becomes_the_binary_answer_in_the_order_of_b() {
    let x = Matrix::new(2, 3, Order::RowMajor, (0..6).map(f64::from).collect()).unwrap();
    let solution = Solution { x, certificate: certificate() };
    let a = Matrix::new(2, 2, Order::RowMajor, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
    for order in [Order::RowMajor, Order::ColMajor] {
        let system = System::new(a.clone(), Matrix::new(2, 3, order, vec![1.0; 6]).unwrap());
        let params = system.to_params();
        for format in [Format::Binary, Format::Json] {
            let blob = solution.to_blob(&params, format).unwrap();
            assert_eq!(AnswerParams::from_bytes(&blob.params).unwrap().order, order);
            let back = System::decode_answer(&params, blob).unwrap();
            assert_eq!(back, solution);
        }
        let back = System::decode_answer(&params, solution.to_blob(&params, Format::Binary).unwrap()).unwrap();
        assert_eq!(back.x.order(), order);
    }
}

#[test]
fn a_solution_that_does_not_fit_its_task_is_no_answer() {
    type Change<'a> = &'a dyn Fn(&mut Solution);
    let params = System::random(2, 1, 0).to_params();
    let refused = |change: Change<'_>| {
        let mut solution = Solution { x: Matrix::vector(vec![1.0, 2.0]), certificate: certificate() };
        assert!(solution.to_blob(&params, Format::Binary).is_ok());
        change(&mut solution);
        [Format::Binary, Format::Json].map(|format| solution.to_blob(&params, format).unwrap_err().to_string())
    };
    let changes: [(Change<'_>, &str); 7] = [
        (&|solution| solution.x = Matrix::vector(vec![1.0]), "1 x 1, not a vector, 2 x 1"),
        (&|solution| solution.x = Matrix::new(2, 1, Order::RowMajor, vec![1.0; 2]).unwrap(), "is 2 x 1, not a vector"),
        (&|solution| solution.x = Matrix::vector(vec![1.0, f64::NAN]), "X"),
        (&|solution| solution.certificate.rcond = f64::NAN, "certificate"),
        (&|solution| solution.certificate.tried = vec![Method::Lu; 4], "does not fit"),
        (&|solution| solution.certificate.reproducible = Some("é".repeat(200)), "does not fit"),
        (&|solution| solution.certificate.reproducible = Some(String::new()), "does not fit"),
    ];
    for (change, word) in changes {
        for error in refused(change) {
            assert!(error.contains(word), "{error}");
        }
    }
    let solution = Solution { x: Matrix::vector(vec![1.0, 2.0]), certificate: certificate() };
    assert!(solution.to_blob(&[1, 2, 3], Format::Binary).is_err());
}

#[test]
fn a_blob_is_read_where_it_lies() {
    let (a, b) = (vec![1.0, 2.0, 3.0, 4.0], vec![5.0, 6.0]);
    let system = System::new(Matrix::new(2, 2, Order::ColMajor, a).unwrap(), Matrix::vector(b)).by(Choice::Lu);
    let at = system.a.as_slice().as_ptr();
    let blob = system.clone().encode(Format::Binary).unwrap().blob;
    assert_eq!(System::from_blob(blob.clone()).unwrap(), system);
    let taken = System::from_blob(system.encode(Format::Binary).unwrap().blob).unwrap();
    assert_eq!(taken.a.as_slice().as_ptr(), at);
    let Blob { params, payload, .. } = blob;
    let whole = payload.concat();
    for pieces in [
        vec![whole.clone()],
        vec![whole[..5].to_vec(), whole[5..].to_vec()],
        whole.chunks(1).map(<[u8]>::to_vec).collect(),
    ] {
        let payload = pieces.into_iter().map(Bytes::from).collect();
        let blob = Blob { format: Format::Binary, params: params.clone(), payload };
        assert_eq!(System::from_blob(blob).unwrap(), taken);
    }
    let short = Blob { format: Format::Binary, params, payload: vec![whole[1..].to_vec().into()] };
    assert!(System::from_blob(short).is_err());
    assert!(System::from_blob(Blob { format: Format::Binary, ..Blob::default() }).is_err());
    let json = taken.clone().encode(Format::Json).unwrap().blob;
    assert_eq!(System::from_blob(json.clone()).unwrap(), taken);
    let lies = TaskParams { m: 1, n: 1, ..TaskParams::from_bytes(&json.params).unwrap() }.to_bytes();
    assert!(System::from_blob(Blob { params: lies, ..json }).is_err());
}

fn matrices() -> impl Strategy<Value = Matrix> {
    let shape = prop_oneof![(1..5_usize, 1..5_usize), (Just(1), 1..40_usize), (1..40_usize, Just(1))];
    let number =
        any::<u64>().prop_map(|bits| Some(f64::from_bits(bits)).filter(|number| number.is_finite()).unwrap_or(-0.0));
    let number = prop_oneof![number, (0_u64..9).prop_map(|bits| f64::from_bits(bits | 1 << 63)), Just(f64::MAX)];
    (shape, any::<[bool; 2]>()).prop_flat_map(move |((rows, cols), [by_rows, vector])| {
        let order = if by_rows { Order::RowMajor } else { Order::ColMajor };
        proptest::collection::vec(number.clone(), rows * cols).prop_map(move |numbers| {
            let matrix = Matrix::new(rows, cols, order, numbers).unwrap();
            if vector && cols == 1 { matrix.into_vector().unwrap() } else { matrix }
        })
    })
}

proptest! {
    #[test]
    fn every_bit_of_a_system_survives(a in matrices(), b in matrices(), spaces in 0..9_usize) {
        // A vector is no A.
        let a = if a.is_vector() { Matrix::new(a.rows(), 1, Order::RowMajor, a.into_vec()).unwrap() } else { a };
        let how = How { method: Choice::Lstsq, reproducible: true };
        let system = System { a, b, how };
        let (a, b) = (&system.a, &system.b);
        let text = |form: &serde_json::Value| serde_json::to_string(form).unwrap();
        let (rows, packed) = (serde_json::to_string(b).unwrap(), serde_json::to_string(&Base64(b)).unwrap());
        let mut texts = vec![(String::from_utf8(write_task(&system).unwrap()).unwrap(), false)];
        for b in [rows, packed] {
            let a = serde_json::to_string(&Base64(a)).unwrap();
            let tail = r#""method": "lstsq", "reproducible": true"#;
            let head = " ".repeat(spaces);
            texts.push((format!(r#"{head}{{"a": {a}, "b": {b}, {tail}}}"#), b.starts_with('{')));
            texts.push((format!(r#"{{{head}"b":{b},"a":{a},{tail}}}"#), b.starts_with('{')));
            // Spaces and the order of the fields do not matter.
            texts.push((text(&serde_json::from_str(&format!(r#"{{"a": {a}, "b": {b}, {tail}}}"#)).unwrap()), false));
        }
        for (text, b_packed) in texts {
            let (back, _) = System::from_json(text.clone().into()).unwrap();
            prop_assert!(same(&back.a, a) && same(&back.b, b), "{}", text);
            prop_assert_eq!(back.how, how);
            prop_assert!(!b_packed || back.b.order() == b.order());
        }
    }

    #[test]
    fn every_bit_of_a_solution_survives(x in matrices()) {
        let solution = Solution { x, certificate: certificate() };
        let text = write_answer(&solution).unwrap();
        prop_assert!(text.len() as u64 <= answer_bytes(solution.x.rows(), solution.x.cols()));
        let packed = format!(
            r#"{{"certificate": {}, "x": {}}}"#,
            serde_json::to_string(&solution.certificate).unwrap(),
            serde_json::to_string(&Base64(&solution.x)).unwrap()
        );
        for text in [text, packed.into()] {
            let back = Solution::from_json(text).unwrap();
            prop_assert_eq!(&back.certificate, &solution.certificate);
            prop_assert!(same(&back.x, &solution.x));
        }
    }

    #[test]
    fn any_bytes_are_a_system_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = System::from_json(bytes.clone());
        let _ = Solution::from_json(bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_near_json_is_a_system_or_an_error(text in near_json(), cut in 0..400_usize) {
        for text in [&text, &text[..text.floor_char_boundary(cut)]] {
            if let Ok((system, _)) = read(text) {
                let _ = system.check();
            }
            let _ = Solution::from_json(text.replace("\"a\"", "\"x\"").replace("\"b\"", "\"certificate\"").into());
        }
    }
}

fn near_json() -> impl Strategy<Value = String> {
    let list = "[\\[\\]0-9,.eE+\\-nulNaIif \"{}]{0,30}";
    let value = prop_oneof![
        list.prop_map(|list| list),
        "\\[\\[[0-9,.e\\-]{0,12}\\],\\[[0-9,.e\\-]{0,12}\\]\\]",
        "\\[-?[0-9]{1,30}(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,22})?(,1)?\\]",
        "\\{\"shape\":\\[[0-9]{1,20}(,[0-9])?\\],\"dtype\":\"<f[48]\",(\"order\":\"[CFA]\",)?\"data\":\"[A-D/+= \\\\]{0,24}\"\\}",
        Just(r#"{"shape":[1,1],"dtype":"<f8","data":"AAAAAAAA8D8="}"#.to_owned()),
    ];
    let more = prop_oneof![
        Just(String::new()),
        ",\"(method|priority|deadline_ms|reproducible|a|é|\\\\u00[0-9]{1,2})\":(\"[a-z\\\\]{0,5}\"|-?[0-9.]{1,22}|true|null|\\{)",
    ];
    (value.clone(), value, more).prop_map(|(a, b, more)| format!("{{\"a\":{a},\"b\":{b}{more}}}"))
}

/// By `make memory`, and alone, for the peak is the process's.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "reads the peak memory of the whole process, so it must run alone"]
fn peak_memory_of_reading_is_once_and_a_half_the_text() {
    let status = |field: &str| -> f64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let kilobytes = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        kilobytes.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    };
    let n = 3000;
    let System { a, b, .. } = System::random(n, 1, 1);
    // Digits in full; of `System::random` there are but 31 bits of each.
    let a = Matrix::new(n, n, Order::ColMajor, a.as_slice().iter().map(|number| number.sin()).collect()).unwrap();
    let singles: Vec<f32> = a.as_slice().iter().map(|number| *number as f32).collect();
    let head = format!(r#"{{"shape":[{n},{n}],"order":"F","dtype":"<f4","data":"#);
    let packed = |b: &Matrix| serde_json::to_string(&Base64(b)).unwrap();
    let forms: [(&str, &dyn Fn() -> String, f64); 3] = [
        ("lists", &|| serde_json::to_string(&a).unwrap(), 1.5),
        ("<f8", &|| packed(&a), 1.05),
        ("<f4", &|| format!("{head}\"{}\"}}", base64(bytemuck::cast_slice::<f32, u8>(&singles))), 1.55),
    ];
    for (name, form, limit) in forms {
        for b_first in [false, true] {
            let (a, b) = (form(), packed(&b));
            let text = if b_first { format!(r#"{{"b":{b},"a":{a}}}"#) } else { format!(r#"{{"a":{a},"b":{b}}}"#) };
            drop((a, b));
            let len = text.len() as f64;
            std::fs::write("/proc/self/clear_refs", "5").unwrap();
            let before = status("VmRSS:") - len;
            let start = std::time::Instant::now();
            let (system, _) = System::from_json(text.into()).unwrap();
            let seconds = start.elapsed().as_secs_f64();
            let (peak, after) = ((status("VmHWM:") - before) / len, (status("VmRSS:") - before) / len);
            println!("{name}: {:.0} MB/s, peak {peak:.3} x the text, then {after:.3}", len / 1e6 / seconds);
            assert!(peak <= limit, "{peak}");
            assert_eq!(system.a.rows(), n);
        }
    }
}
