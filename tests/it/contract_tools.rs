//! Exported contracts, read by tools that are not ours.

use std::path::Path;

use serde_json::json;

use crate::support::{Binary, run_node_client};

/// What a generator stumbles over: definitions in definitions, one that refers to itself, names that no key may have, references by
/// `$anchor` and in percent-encoding, and properties that are called like keywords.
const BASKET: &str = r##"{
    "type": "object", "required": ["id", "items", "const"],
    "properties": {
        "id": { "$ref": "#id" },
        "items": { "type": "array", "items": { "$ref": "#/%24defs/an%20item" } },
        "const": { "$ref": "#/$defs/an%20item/$defs/a~1b" },
        "$defs": { "$anchor": "text", "type": "string" },
        "default": { "$ref": "#text" },
        "next": { "$dynamicRef": "#" }
    },
    "$defs": {
        "id": { "$anchor": "id", "type": "string" },
        "an item": {
            "type": "object", "required": ["part"],
            "properties": { "part": { "type": ["array", "null"], "items": { "$ref": "#/$defs/an%20item" } } },
            "$defs": { "a/b": { "type": "integer" } }
        }
    }
}"##;

const A_BASKET: &str = r#"{ "id": "b-1", "items": [{ "part": [{ "part": null }] }], "const": 7, "default": "x",
    "next": { "id": "b-2", "items": [], "const": 8, "$defs": "y" } }"#;

/// @asyncapi/parser finds no fault, ajv agrees with the schemas, and the types that openapi-typescript generates take the events, and refuse
/// those that lack something.
#[tokio::test]
async fn exported_contracts_are_read_by_the_tools_of_others() {
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/contracts");
    let binary = Binary::with_config("[contracts]\npath = \"contracts\"\n");
    let folder = binary.directory().join("contracts");
    std::fs::create_dir_all(folder.join("baskets")).expect("the directory is ours");
    for file in ["orders.toml", "order.placed.1.json", "order.placed.2.json"] {
        std::fs::copy(contracts.join(file), folder.join(file)).expect("an example");
    }
    for examples in ["order.placed.1", "order.placed.2"] {
        std::fs::create_dir_all(folder.join(examples)).expect("the directory is ours");
        for file in std::fs::read_dir(contracts.join(examples)).expect("examples").flatten() {
            std::fs::copy(file.path(), folder.join(examples).join(file.file_name())).expect("an example");
        }
    }
    let basket = "[[contracts]]\ntype = \"shop/basket\"\n\
         [[contracts.versions]]\nversion = 1\nschema = \"basket.json\"\nexamples = \"baskets\"\n";
    for (file, text) in [("basket.toml", basket), ("basket.json", BASKET), ("baskets/one.json", A_BASKET)] {
        std::fs::write(folder.join(file), text).expect("the directory is ours");
    }
    let export = async |form: &str| {
        let exported = binary.run(&["contracts", "export", form]).await;
        assert_eq!(exported.code, Some(0), "{exported:?}");
        let file = binary.directory().join(format!("{form}.json"));
        std::fs::write(&file, exported.stdout).expect("the directory is ours");
        file.to_string_lossy().into_owned()
    };
    let (asyncapi, openapi) = (export("--asyncapi").await, export("--openapi-schemas").await);
    let generated = binary.directory().to_string_lossy().into_owned();
    let Some(read) = run_node_client("contracts_read.cjs", &[&asyncapi, &openapi, &generated]).await else { return };
    let versions = ["order.placed.v1", "order.placed.v2", "shop_basket.v1"];
    let definitions = ["shop_basket.v1.a_b", "shop_basket.v1.an_item", "shop_basket.v1.id"];
    let schemas = ["order.placed.v1", "order.placed.v1.line", "order.placed.v2", "order.placed.v2.line", "shop_basket.v1"];
    let schemas = [&schemas[..], &definitions[..]].concat();
    assert_eq!(read, [json!({ "messages": versions, "schemas": schemas, "events": 3, "wrong": 10 })]);
}
