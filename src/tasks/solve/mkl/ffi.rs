//! Declarations of the foreign functions that are in no Rust crate, and the signatures of those that come in two
//! precisions. Nothing here is called; who calls states why it is sound.

use std::ffi::{c_char, c_int};

pub(super) type Progress = extern "C" fn(*const c_int, *const c_int, *const c_char, c_int) -> c_int;

pub(super) type Getrs<T> = unsafe extern "C" fn(
    *const c_char,
    *const c_int,
    *const c_int,
    *const T,
    *const c_int,
    *const c_int,
    *mut T,
    *const c_int,
    *mut c_int,
);

pub(super) type Potrs<T> = unsafe extern "C" fn(
    *const c_char,
    *const c_int,
    *const c_int,
    *const T,
    *const c_int,
    *mut T,
    *const c_int,
    *mut c_int,
);

pub(super) type Gemm<T> = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const c_int,
    *const c_int,
    *const c_int,
    *const T,
    *const T,
    *const c_int,
    *const T,
    *const c_int,
    *const T,
    *mut T,
    *const c_int,
);

pub(super) type Trsm<T> = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_int,
    *const c_int,
    *const T,
    *const T,
    *const c_int,
    *mut T,
    *const c_int,
);

pub(super) type Trsv<T> = unsafe extern "C" fn(
    *const c_char,
    *const c_char,
    *const c_char,
    *const c_int,
    *const T,
    *const c_int,
    *mut T,
    *const c_int,
);

pub(super) type Getrf<T> =
    unsafe extern "C" fn(*const c_int, *const c_int, *mut T, *const c_int, *mut c_int, *mut c_int);

pub(super) type Omatcopy<T> = unsafe extern "C" fn(c_char, c_char, usize, usize, T, *const T, usize, *mut T, usize);

// Declared by hand: lapack-sys has LAPACK only, and MKL's service functions are in no Rust crate.
unsafe extern "C" {
    /// `mkl_service.h`: threads for the calling thread, 0 for the global setting; returns what was set before.
    #[link_name = "MKL_Set_Num_Threads_Local"]
    pub(super) fn mkl_set_num_threads_local(threads: c_int) -> c_int;
    /// `mkl_service.h`: the branch of conditional numerical reproducibility. Only before any other call of MKL.
    #[link_name = "MKL_CBWR_Set"]
    pub(super) fn mkl_cbwr_set(branch: c_int) -> c_int;
    /// `mkl_service.h`: the branch that this CPU would get.
    #[link_name = "MKL_CBWR_Get_Auto_Branch"]
    pub(super) fn mkl_cbwr_get_auto_branch() -> c_int;
    /// `mkl_service.h`: writes at most so many bytes, without a zero where they do not suffice.
    #[link_name = "MKL_Get_Version_String"]
    pub(super) fn mkl_get_version_string(buffer: *mut c_char, len: c_int);
    /// What LAPACK's factorisations call with (thread, step, name, length of name); a return other than 0 stops them.
    pub(super) fn mkl_set_progress(hook: Progress) -> Option<Progress>;
    /// `omp.h` of libiomp5: how long the calling thread's team spins after a parallel region, in ms.
    pub(super) fn kmp_set_blocktime(ms: c_int);
    pub(super) fn omp_set_default_device(device: c_int);
    pub(super) fn omp_get_default_device() -> c_int;
    pub(super) fn dgemv_(
        trans: *const c_char,
        m: *const c_int,
        n: *const c_int,
        alpha: *const f64,
        a: *const f64,
        lda: *const c_int,
        x: *const f64,
        incx: *const c_int,
        beta: *const f64,
        y: *mut f64,
        incy: *const c_int,
    );
    pub(super) fn dgemm_(
        transa: *const c_char,
        transb: *const c_char,
        m: *const c_int,
        n: *const c_int,
        k: *const c_int,
        alpha: *const f64,
        a: *const f64,
        lda: *const c_int,
        b: *const f64,
        ldb: *const c_int,
        beta: *const f64,
        c: *mut f64,
        ldc: *const c_int,
    );
    pub(super) fn dsymv_(
        uplo: *const c_char,
        n: *const c_int,
        alpha: *const f64,
        a: *const f64,
        lda: *const c_int,
        x: *const f64,
        incx: *const c_int,
        beta: *const f64,
        y: *mut f64,
        incy: *const c_int,
    );
    pub(super) fn dtrsv_(
        uplo: *const c_char,
        trans: *const c_char,
        diag: *const c_char,
        n: *const c_int,
        a: *const f64,
        lda: *const c_int,
        x: *mut f64,
        incx: *const c_int,
    );
    pub(super) fn dtrsm_(
        side: *const c_char,
        uplo: *const c_char,
        trans: *const c_char,
        diag: *const c_char,
        m: *const c_int,
        n: *const c_int,
        alpha: *const f64,
        a: *const f64,
        lda: *const c_int,
        b: *mut f64,
        ldb: *const c_int,
    );
    pub(super) fn sgemm_(
        transa: *const c_char,
        transb: *const c_char,
        m: *const c_int,
        n: *const c_int,
        k: *const c_int,
        alpha: *const f32,
        a: *const f32,
        lda: *const c_int,
        b: *const f32,
        ldb: *const c_int,
        beta: *const f32,
        c: *mut f32,
        ldc: *const c_int,
    );
    pub(super) fn strsm_(
        side: *const c_char,
        uplo: *const c_char,
        trans: *const c_char,
        diag: *const c_char,
        m: *const c_int,
        n: *const c_int,
        alpha: *const f32,
        a: *const f32,
        lda: *const c_int,
        b: *mut f32,
        ldb: *const c_int,
    );
    pub(super) fn strsv_(
        uplo: *const c_char,
        trans: *const c_char,
        diag: *const c_char,
        n: *const c_int,
        a: *const f32,
        lda: *const c_int,
        x: *mut f32,
        incx: *const c_int,
    );
    /// `mkl_trans.h`: B = alpha op(A), rows and cols being A's.
    #[link_name = "MKL_Somatcopy"]
    pub(super) fn mkl_somatcopy(
        ordering: c_char,
        trans: c_char,
        rows: usize,
        cols: usize,
        alpha: f32,
        a: *const f32,
        lda: usize,
        b: *mut f32,
        ldb: usize,
    );
    #[link_name = "MKL_Domatcopy"]
    pub(super) fn mkl_domatcopy(
        ordering: c_char,
        trans: c_char,
        rows: usize,
        cols: usize,
        alpha: f64,
        a: *const f64,
        lda: usize,
        b: *mut f64,
        ldb: usize,
    );
}
