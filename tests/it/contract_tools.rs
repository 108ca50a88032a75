//! Exported contracts, read by tools that are not ours.

use std::path::Path;

use serde_json::json;

use crate::support::{Binary, run_node_client};

/// @asyncapi/parser finds no fault, ajv agrees with the schemas, and the types that openapi-typescript generates take the events, and refuse
/// those that lack something.
#[tokio::test]
async fn exported_contracts_are_read_by_the_tools_of_others() {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/contracts");
    let binary = Binary::with_config(&format!("[contracts]\npath = \"{}\"\n", contracts.display()));
    let export = async |form: &str| {
        let exported = binary.run(&["contracts", "export", form]).await;
        assert_eq!(exported.code, Some(0), "{exported:?}");
        let file = binary.directory().join(format!("{form}.json"));
        std::fs::write(&file, exported.stdout).expect("the directory is ours");
        file.to_string_lossy().into_owned()
    };
    let (asyncapi, openapi) = (export("--asyncapi").await, export("--openapi-schemas").await);
    let folder = binary.directory().to_string_lossy().into_owned();
    let Some(read) = run_node_client("contracts_read.cjs", &[&asyncapi, &openapi, &folder]).await else { return };
    let versions = ["order.placed.v1", "order.placed.v2"];
    let schemas = ["order.placed.v1", "order.placed.v1.line", "order.placed.v2", "order.placed.v2.line"];
    assert_eq!(read, [json!({ "messages": versions, "schemas": schemas, "events": 2, "wrong": 7 })]);
}
