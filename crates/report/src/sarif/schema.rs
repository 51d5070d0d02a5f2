//! The part of SARIF 2.1.0 that we write, with the names of its schema. Nothing is decided here.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Log<'a> {
    #[serde(rename = "$schema")]
    pub schema: &'a str,
    pub version: &'a str,
    pub runs: [Run<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Run<'a> {
    pub tool: Tool<'a>,
    pub column_kind: &'a str,
    pub results: Vec<Outcome<'a>>,
    pub properties: RunProperties<'a>,
}

#[derive(Serialize)]
pub(super) struct RunProperties<'a> {
    pub runtime: &'a str,
}

#[derive(Serialize)]
pub(super) struct Tool<'a> {
    pub driver: Driver<'a>,
}

#[derive(Serialize)]
pub(super) struct Driver<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub rules: Vec<Descriptor<'a>>,
}

/// A `reportingDescriptor`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor<'a> {
    pub id: &'a str,
    pub name: String,
    pub short_description: Text<'a>,
    pub help: Text<'a>,
    pub default_configuration: Configuration<'a>,
    pub properties: DescriptorProperties<'a>,
}

#[derive(Serialize)]
pub(super) struct Configuration<'a> {
    pub enabled: bool,
    pub level: &'a str,
}

/// `problem.severity` is what code scanning sites read.
#[derive(Serialize)]
pub(super) struct DescriptorProperties<'a> {
    pub code: &'a str,
    pub tags: [&'a str; 2],
    #[serde(rename = "problem.severity")]
    pub problem_severity: &'a str,
}

/// A `message` or a `multiformatMessageString`.
#[derive(Serialize)]
pub(super) struct Text<'a> {
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub markdown: Option<&'a str>,
}

impl Text<'_> {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), markdown: None }
    }
}

/// A `result`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Outcome<'a> {
    pub rule_id: &'a str,
    pub rule_index: usize,
    pub level: &'a str,
    pub rank: f32,
    pub message: Text<'a>,
    pub locations: [Location<'a>; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related_locations: Vec<Location<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub code_flows: Vec<CodeFlow<'a>>,
    pub partial_fingerprints: BTreeMap<&'a str, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fixes: Vec<Repair<'a>>,
    pub properties: OutcomeProperties<'a>,
}

#[derive(Serialize)]
pub(super) struct OutcomeProperties<'a> {
    pub confidence: &'a str,
    pub place: &'a str,
    pub symbol: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub overlap: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vote: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub order: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    pub schedule: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Location<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<usize>,
    pub physical_location: PhysicalLocation,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logical_locations: Vec<LogicalLocation<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PhysicalLocation {
    pub artifact_location: ArtifactLocation,
    pub region: Region,
}

#[derive(Serialize)]
pub(super) struct ArtifactLocation {
    pub uri: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Region {
    pub start_line: u32,
    pub start_column: u32,
    pub end_line: u32,
    pub end_column: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogicalLocation<'a> {
    pub fully_qualified_name: &'a str,
    pub kind: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CodeFlow<'a> {
    pub thread_flows: Vec<ThreadFlow<'a>>,
}

#[derive(Serialize)]
pub(super) struct ThreadFlow<'a> {
    pub id: String,
    pub message: Text<'a>,
    pub locations: Vec<ThreadFlowLocation<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadFlowLocation<'a> {
    pub location: Location<'a>,
    pub nesting_level: usize,
    pub importance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execution_order: Option<usize>,
}

/// A `fix`.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Repair<'a> {
    pub description: Text<'a>,
    pub artifact_changes: [ArtifactChange<'a>; 1],
    pub properties: RepairProperties<'a>,
}

#[derive(Serialize)]
pub(super) struct RepairProperties<'a> {
    pub safety: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArtifactChange<'a> {
    pub artifact_location: ArtifactLocation,
    pub replacements: Vec<Replacement<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replacement<'a> {
    pub deleted_region: Region,
    pub inserted_content: Text<'a>,
}
