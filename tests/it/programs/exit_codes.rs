//! Exit codes and messages when something is wrong: 1 for a task or a broker, 2 for usage and input.

use std::net::TcpListener;

use rabbitry::files;
use rabbitry::tasks::solve::{Matrix, System};

use super::{BOSS, WORKER, boss, run};
use crate::rabbitmq::{given, vhost};

#[tokio::test]
async fn unreadable_input_and_bad_usage_exit_with_2() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let system = System::random(5, 1, 0);
    files::write(path("A.npy"), &system.a).expect("A is written");
    files::write(path("B.npy"), &system.b).expect("B is written");
    let whole = std::fs::read(path("A.npy")).expect("A is there");
    std::fs::write(path("truncated.npy"), &whole[..whole.len() - 8]).expect("written");
    std::fs::write(path("text.npy"), "1 2 3").expect("written");
    std::fs::write(path("complex.mtx"), "%%MatrixMarket matrix array complex general\n1 1\n1 0\n").expect("written");
    let (b, x) = (path("B.npy"), path("X.npy"));
    for name in ["missing.npy", "truncated.npy", "text.npy", "complex.mtx", "A.csv"] {
        let a = path(name);
        let ended = boss(&["solve", &a, &b, "-o", &x]).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{name}: {}", ended.err);
        assert!(ended.err.contains(&a) && ended.err.lines().count() == 1, "{name}: {}", ended.err);
    }
    let ended = boss(&["solve", &path("A.npy"), &b, "-o", &path("X.txt")]).await;
    assert_eq!(ended.code, Some(2), "an output that can't be written is found before the work: {}", ended.err);
    for usage in [
        &["solve"][..],
        &["solve", "--random", "0"],
        &["solve", "--random", "ten"],
        &["solve", "--random", "3", "--payload", "xml"],
        &["solve", "--random", "3", "--deadline", "-1"],
        &["dissolve"],
        &["--broker", "http://localhost", "workers"],
    ] {
        let ended = boss(usage).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(2), ""), "{usage:?}: {}", ended.err);
        assert!(!ended.err.is_empty(), "{usage:?}");
    }
    for usage in [&["--kinds", "bake"][..], &["--slots", "0"], &["--broker", "localhost"], &["extra"]] {
        let ended = run(WORKER, usage).await;
        assert_eq!(ended.code, Some(2), "{usage:?}: {}", ended.err);
    }
}

#[tokio::test]
async fn a_system_that_is_none_exits_with_1_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (a, b, x) = (path("A.npy"), path("B.npy"), path("X.npy"));
    let wide = Matrix::from(ndarray::Array2::<f64>::ones((2, 3)));
    let square = Matrix::from(ndarray::Array2::<f64>::eye(2));
    let holed = Matrix::from(ndarray::array![[1.0, f64::NAN], [0.0, 1.0]]);
    let (short, fitting) = (Matrix::vector(vec![1.0]), Matrix::vector(vec![1.0, 2.0]));
    for (name, matrix, right, why) in [
        ("non-square", &wide, &fitting, "2 x 3; it must be square"),
        ("another height", &square, &short, "as many rows"),
        ("NaN", &holed, &fitting, "NaN"),
    ] {
        files::write(&a, matrix).expect("A is written");
        files::write(&b, right).expect("B is written");
        let ended = boss(&["solve", &a, &b, "-o", &x]).await;
        assert_eq!(ended.code, Some(1), "{name}: {}{}", ended.out, ended.err);
        assert!(ended.out.contains(why), "{name}: {}", ended.out);
    }
}

#[tokio::test]
async fn a_broker_that_is_not_there_exits_with_1_and_names_the_address() {
    // Free a moment ago, and given to nobody since.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let url = format!("amqp://guest:s3cret@127.0.0.1:{port}");
    let programs: [(&str, &[&str]); 3] = [(BOSS, &["solve", "--random", "3"]), (BOSS, &["workers"]), (WORKER, &[])];
    for (program, arguments) in programs {
        let ended = run(program, &[&["--broker", &url], arguments].concat()).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(&format!("127.0.0.1:{port}")), "{}", ended.err);
        assert!(!ended.err.contains("s3cret"), "{}", ended.err);
    }
}

#[tokio::test]
async fn a_wrong_password_exits_with_1_and_is_not_printed() {
    if given().is_some() {
        eprintln!("not tested: the users of the broker that RABBITRY_TEST_AMQP names are not known");
        return;
    }
    let place = vhost().await;
    let url = place.url.replace("guest:guest", "guest:s3cret");
    let programs: [(&str, &[&str]); 2] = [(BOSS, &["solve", "--random", "3"]), (WORKER, &[])];
    for (program, arguments) in programs {
        let ended = run(program, &[&["--broker", &url], arguments].concat()).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains("refused") && !ended.err.contains("s3cret"), "{}", ended.err);
    }
}
