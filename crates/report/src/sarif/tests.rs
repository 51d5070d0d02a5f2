//! The structure rules of the schema that consumers rely on, on the sample findings.
//!
//! The output of the samples was also validated once, by hand, against the schema of the standard
//! (oasis-tcs/sarif-spec, sarif-2.1/schema/sarif-schema-2.1.0.json): no errors.

use serde_json::{Value, json};

use super::*;
use crate::sample::Sample;

fn shown(sample: &Sample) -> Value {
    serde_json::from_str(&render(&sample.page())).unwrap()
}

/// Asserts that each of `fields` is there and is not null.
fn requires(value: &Value, fields: &[&str]) {
    for field in fields {
        assert!(!value[field].is_null(), "no `{field}` in {value:#}");
    }
}

/// The rules for a location and its region: a URI without spaces, ends not before starts, all counted from 1.
fn check_location(location: &Value) {
    let physical = &location["physicalLocation"];
    let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
    assert!(uri.is_ascii() && !uri.contains([' ', '\\']), "{uri}");
    check_region(&physical["region"]);
}

fn check_region(region: &Value) {
    let number = |field: &str| region[field].as_u64().unwrap();
    let start = (number("startLine"), number("startColumn"));
    assert!(start.0 >= 1 && start.1 >= 1, "{region}");
    assert!(start <= (number("endLine"), number("endColumn")), "{region}");
}

#[test]
fn the_required_properties_are_there() {
    for sample in [Sample::new(), Sample::empty(), Sample::with_odd_spans()] {
        let log = shown(&sample);
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        requires(run, &["tool", "results"]);
        assert_eq!(run["columnKind"], "unicodeCodePoints");
        let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
        requires(&run["tool"]["driver"], &["name", "version"]);
        for rule in rules {
            requires(rule, &["id", "name"]);
            requires(&rule["help"], &["text", "markdown"]);
        }
        for result in run["results"].as_array().unwrap() {
            requires(result, &["message", "level"]);
            requires(&result["message"], &["text"]);
            let idx = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
            assert_eq!(rules[idx]["id"], result["ruleId"]);
            let fingerprint = result["partialFingerprints"]["raceproof/v1"].as_str().unwrap();
            assert_eq!(fingerprint.len(), 16);
            check_parts(result);
        }
    }
}

fn check_parts(result: &Value) {
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    all(&result["locations"]).iter().for_each(check_location);
    for related in all(&result["relatedLocations"]) {
        requires(&related, &["id", "message"]);
        check_location(&related);
    }
    for flow in all(&result["codeFlows"]) {
        for thread in all(&flow["threadFlows"]) {
            assert!(!all(&thread["locations"]).is_empty(), "a thread flow has a location");
            all(&thread["locations"]).iter().for_each(|step| check_location(&step["location"]));
        }
    }
    for fix in all(&result["fixes"]) {
        let changes = all(&fix["artifactChanges"]);
        assert!(!changes.is_empty());
        for replacement in changes.iter().flat_map(|change| all(&change["replacements"])) {
            check_region(&replacement["deletedRegion"]);
            requires(&replacement["insertedContent"], &["text"]);
        }
    }
}

#[test]
fn rules_and_levels_are_described() {
    let log = shown(&Sample::new());
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let ids: Vec<_> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["unlocked-increment", "check-then-act", "lock-order-inversion", "useless-lock", "no-shutdown"]);
    assert_eq!(rules[0]["name"], "UnlockedIncrement");
    assert_eq!(rules[0]["properties"]["code"], "RP201");
    let levels: Vec<_> = run["results"].as_array().unwrap().iter().map(|r| &r["level"]).collect();
    assert_eq!(levels, ["error", "warning", "error", "note", "error"]);
    assert_eq!(run["results"][3]["rank"], 30.0);
    assert_eq!(run["results"][3]["properties"]["confidence"], "low");
}

#[test]
fn each_side_is_a_thread_flow() {
    let log = shown(&Sample::new());
    let flows = &log["runs"][0]["results"][0]["codeFlows"];
    assert_eq!(flows.as_array().unwrap().len(), 1);
    let threads = flows[0]["threadFlows"].as_array().unwrap();
    let told: Vec<Vec<&str>> = threads
        .iter()
        .map(|thread| {
            let steps = thread["locations"].as_array().unwrap();
            let steps = steps.iter().map(|step| &step["location"]["message"]["text"]);
            std::iter::once(&thread["message"]["text"]).chain(steps).map(|text| text.as_str().unwrap()).collect()
        })
        .collect();
    assert_eq!(
        told[0],
        ["a thread that runs `run`", "enters `run`", "enters `Cache.get`", "updates `self._hits`, no lock"]
    );
    assert_eq!(told[1], ["any caller of `Cache`", "enters `Cache.reset`", "writes `self._hits`, holding `self._lock`"]);
}

#[test]
fn columns_count_characters_and_ends_are_exclusive() {
    let log = shown(&Sample::new());
    let region = &log["runs"][0]["results"][1]["locations"][0]["physicalLocation"]["region"];
    // `\tif "日本" not in größe: ...`
    assert_eq!(region, &json!({"startLine": 8, "startColumn": 5, "endLine": 8, "endColumn": 22}));
}

#[test]
fn a_fix_is_a_list_of_replacements() {
    let log = shown(&Sample::new());
    let fix = &log["runs"][0]["results"][1]["fixes"][0];
    assert_eq!(fix["description"]["text"], "one `setdefault`");
    assert_eq!(fix["properties"]["safety"], "unsafe");
    let insertion = &fix["artifactChanges"][0]["replacements"][1];
    assert_eq!(insertion["insertedContent"]["text"], "import sys\n");
    let at = json!({"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1});
    assert_eq!(insertion["deletedRegion"], at);
}

#[test]
fn paths_become_uris() {
    assert_eq!(uri("src/a.py"), "src/a.py");
    assert_eq!(uri("./a b,ü:%.py"), "a%20b%2C%C3%BC%3A%25.py");
    assert_eq!(uri("/srv/a.py"), "file:///srv/a.py");
    assert_eq!(uri("C:/x y.py"), "file:///C:/x%20y.py");
}
