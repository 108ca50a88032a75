//! The binary: parse, run, exit code.

use std::process::ExitCode;

use outboxd::cli;

// Deliveries are many small allocations that another thread frees; the system's allocator pays for that (measured: a tenth of the
// processor time of a webhook) and keeps the memory. Without huge pages (`no_thp`), which cost 10 MiB. Only the binary: a program that
// embeds the relay chooses for itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(any(debug_assertions, feature = "failpoints"))]
    if let Err(error) = outboxd::failpoints::arm() {
        eprintln!("outboxd: {error}");
        return ExitCode::from(cli::EXIT_CONFIG);
    }
    // One rustls provider for the whole process, before anything may open a TLS connection.
    rustls::crypto::ring::default_provider().install_default().ok();
    let cli = match cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the runtime of a fresh process starts");
    runtime.block_on(cli::execute(cli))
}
