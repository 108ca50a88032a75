//! The example of the documentation: what a TypeScript compiler says of it.

use std::path::Path;

use crate::support::{find_program, run_program};

/// The part of the page that is in TypeScript.
fn snippet() -> &'static str {
    let page = include_str!("../../../docs/clients.md");
    let (_, rest) = page.split_once("```ts\n").expect("there is one");
    rest.split_once("```").expect("it ends").0
}

#[tokio::test]
async fn the_example_in_typescript_compiles() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let modules = root.join("target/clients/node_modules/@microsoft/signalr");
    let compiler = root.join("target/producers/typescript/node_modules/.bin/tsc");
    let Some(_) = find_program(&["test"], &["-d", &modules.to_string_lossy()]).await else { return };
    let Some(compiler) = find_program(&[&compiler.to_string_lossy()], &["--version"]).await else { return };
    // Beside the library, because that is where the compiler looks.
    let file = root.join("target/clients/hub_example.ts");
    std::fs::write(&file, format!("declare function apply(event: unknown): void;\n{}", snippet())).expect("the directory is ours");
    let file = file.to_string_lossy();
    let options =
        ["--noEmit", "--strict", "--skipLibCheck", "--target", "es2022", "--module", "es2022", "--moduleResolution", "bundler"];
    run_program(&compiler, &[&options[..], &["--lib", "es2022,dom", &file]].concat(), "").await;
}
