//! Writes a new rule: its two files, and its two lines in the list of `rules/mod.rs`.

use std::fs;
use std::path::Path;

use crate::shell::root;

const FOLDER: &str = "crates/check/src/rules";

/// `cargo xtask new-rule`.
pub fn run(name: &str, code: &str) -> Result<(), String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '-';
    if !name.chars().all(is_name) || name.starts_with('-') || name.ends_with('-') {
        return Err(format!("`{name}` is not lower case with dashes"));
    }
    let digits = code.strip_prefix("RP").unwrap_or("");
    if digits.len() != 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("`{code}` is not RP and three digits"));
    }
    if let Some(rule) = check::rules().find(|rule| rule.name == name || rule.code == code) {
        return Err(format!("`{}` ({}) exists", rule.name, rule.code));
    }
    let stem = name.replace('-', "_");
    let folder = root().join(FOLDER);
    let list = folder.join("mod.rs");
    let text = fs::read_to_string(&list).map_err(|cause| format!("{FOLDER}/mod.rs: {cause}"))?;
    let text = listed(&text, &stem, code, code_of)?;
    write_new(&folder.join(format!("{stem}.rs")), &source(name, code, &stem))?;
    write_new(&folder.join(format!("{stem}.md")), &page(name, code))?;
    fs::write(&list, text).map_err(|cause| format!("{FOLDER}/mod.rs: {cause}"))?;
    println!("wrote {FOLDER}/{stem}.rs and {FOLDER}/{stem}.md, and listed them in mod.rs");
    println!("next: say on the page what is caught, then make it so; `cargo xtask docs` lists the rule");
    Ok(())
}

fn write_new(file: &Path, text: &str) -> Result<(), String> {
    if file.exists() {
        return Err(format!("{} exists", file.display()));
    }
    fs::write(file, text).map_err(|cause| format!("{}: {cause}", file.display()))
}

/// The code of a listed rule.
fn code_of(stem: &str) -> Option<&'static str> {
    let name = stem.replace('_', "-");
    check::rules().find(|rule| rule.name == name).map(|rule| rule.code)
}

/// The list with a `mod` line more, in the order of names, and an entry more, in the order of codes.
fn listed(
    text: &str,
    stem: &str,
    code: &str,
    code_of: impl Fn(&str) -> Option<&'static str>,
) -> Result<String, String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let entry = |line: &str| {
        let stem = line.trim().strip_prefix('&')?.strip_suffix("::RULE,")?;
        Some(stem.to_owned())
    };
    let is_later = |line: &String| {
        let other = entry(line).and_then(|stem| code_of(&stem));
        other.is_some_and(|other| other > code)
    };
    let last = || lines.iter().rposition(|line| entry(line).is_some()).map(|idx| idx + 1);
    let at = lines.iter().position(is_later).or_else(last);
    let at = at.ok_or("no entry such as `&name::RULE,` in mod.rs")?;
    lines.insert(at, format!("    &{stem}::RULE,"));
    let new = format!("mod {stem};");
    let is_module = |line: &String| line.starts_with("mod ") && line.ends_with(';');
    let later = |line: &String| is_module(line) && *line > new;
    let last = || lines.iter().rposition(is_module).map(|idx| idx + 1);
    let at = lines.iter().position(later).or_else(last);
    let at = at.ok_or("no line such as `mod name;` in mod.rs")?;
    lines.insert(at, new);
    Ok(lines.join("\n") + "\n")
}

fn source(name: &str, code: &str, stem: &str) -> String {
    format!(
        r#"//! See `{stem}.md` beside this file: it is the documentation and the test.

use facts::{{Finding, RuleInfo, Severity}};

use super::Rule;
use crate::analysis::Analysis;

pub(super) static RULE: Rule = Rule {{
    info: RuleInfo {{
        name: "{name}",
        code: "{code}",
        severity: Severity::Warning,
        summary: "what is wrong, in one line",
        docs: include_str!("{stem}.md"),
        on_by_default: true,
    }},
    check,
}};

fn check(_analysis: &Analysis<'_>, _found: &mut Vec<Finding>) {{}}
"#
    )
}

fn page(name: &str, code: &str) -> String {
    format!(
        "# {name} ({code})

One sentence: what is wrong.

## What is caught

```py
x = 1  # error: [{name}]
```

```output
```

## Why it matters

## What is accepted

```py
x = 1
```

## Limits

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_listed_with_two_lines() {
        let text = "//! The list.\n\nmod a;\nmod c;\n\nstatic RULES: &[&Rule] = &[\n    &c::RULE,\n    &a::RULE,\n];\n";
        let code_of = |stem: &str| Some(if stem == "a" { "RP203" } else { "RP101" });
        let expected = text.replace("mod c;", "mod b;\nmod c;").replace("    &a::RULE", "    &b::RULE,\n    &a::RULE");
        assert_eq!(listed(text, "b", "RP202", code_of), Ok(expected));
        let expected =
            text.replace("mod c;", "mod c;\nmod d;").replace("    &a::RULE,", "    &a::RULE,\n    &d::RULE,");
        assert_eq!(listed(text, "d", "RP204", code_of), Ok(expected));
    }
}
