//! Reads a page: its headings, and the projects that its code blocks form.
//!
//! Blocks marked `py` are files; those that follow one another with nothing between them are one project. A block
//! marked `output` belongs to the project before it. Blocks with another mark are for readers only.

/// A page.
pub struct Page {
    /// Where it lies, from the root of the repository.
    pub path: String,
    /// All of it.
    pub text: String,
    /// Its first line.
    pub title: String,
    /// Its `##` headings, in order.
    pub headings: Vec<String>,
    /// Its projects, in order.
    pub projects: Vec<Project>,
}

/// Files that are checked together.
pub struct Project {
    /// The heading that it stands under.
    pub heading: String,
    /// The line of the page at which its first block begins.
    pub line: usize,
    /// Its files.
    pub files: Vec<File>,
    /// The words after the path in the mark of its first block, such as `runtime=codon`.
    pub words: Vec<String>,
    /// What it is said to print.
    pub output: Option<Output>,
}

/// One block.
pub struct File {
    /// `main.py` unless the block says otherwise.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// An `output` block.
pub struct Output {
    /// The lines of the page that it covers, without its fences, counted from 0.
    pub lines: std::ops::Range<usize>,
    /// What is in it.
    pub text: String,
}

/// A finding that a comment asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expected {
    /// The file.
    pub path: String,
    /// The line in it.
    pub line: u32,
    /// The rule.
    pub rule: String,
}

impl Project {
    /// What its `# error: [rule]` comments ask for, sorted.
    pub fn expected(&self) -> Vec<Expected> {
        let mut expected = Vec::new();
        for file in &self.files {
            for (line, text) in (1..).zip(file.text.lines()) {
                let Some((_, rules)) = text.split_once("# error:") else {
                    continue;
                };
                for rule in rules.split('[').skip(1).filter_map(|rest| rest.split(']').next()) {
                    expected.push(Expected { path: file.path.clone(), line, rule: rule.to_owned() });
                }
            }
        }
        expected.sort();
        expected
    }
}

/// Reads a page.
pub fn parse(path: &str, text: String) -> Page {
    let mut page = Page {
        path: path.to_owned(),
        title: text.lines().next().unwrap_or("").to_owned(),
        headings: Vec::new(),
        projects: Vec::new(),
        text: String::new(),
    };
    let lines: Vec<&str> = text.lines().collect();
    let mut heading = String::new();
    // Does the next block go on with the last project?
    let mut is_open = false;
    let mut idx = 0;
    while idx < lines.len() {
        let line = lines[idx];
        idx += 1;
        if let Some(mark) = line.strip_prefix("```") {
            let begin = idx;
            while idx < lines.len() && lines[idx] != "```" {
                idx += 1;
            }
            let text: String = lines[begin..idx].iter().map(|line| format!("{line}\n")).collect();
            is_open = block(&mut page, &heading, mark, text, begin..idx, is_open);
            idx += 1;
        } else if let Some(name) = line.strip_prefix("## ") {
            heading = name.to_owned();
            page.headings.push(heading.clone());
            is_open = false;
        } else if !line.trim().is_empty() {
            is_open = false;
        }
    }
    page.text = text;
    page
}

/// Adds one block; says whether the next one may belong to the same project.
fn block(
    page: &mut Page,
    heading: &str,
    mark: &str,
    text: String,
    lines: std::ops::Range<usize>,
    is_open: bool,
) -> bool {
    let mut words = mark.split_whitespace().map(str::to_owned);
    match words.next().as_deref() {
        Some("py") => {
            let (options, paths): (Vec<_>, Vec<_>) = words.partition(|word| word.contains('='));
            let is_named = !paths.is_empty();
            let path = paths.into_iter().next().unwrap_or_else(|| "main.py".to_owned());
            let file = File { path, text };
            match page.projects.last_mut() {
                Some(project) if is_open && is_named => project.files.push(file),
                _ => page.projects.push(Project {
                    heading: heading.to_owned(),
                    line: lines.start,
                    files: vec![file],
                    words: options,
                    output: None,
                }),
            }
            is_named
        }
        Some("output") => {
            let project = page.projects.last_mut();
            let project = project.unwrap_or_else(|| panic!("{}: output of nothing", page.path));
            project.output = Some(Output { lines, text });
            false
        }
        _ => false,
    }
}

#[test]
fn blocks_become_projects() {
    let text = "# a\n## One\n```py\nx = 1  # error: [r]\n```\n```output\nfound\n```\n\
                ## Two\n```py a.py runtime=gil\n```\n\n```py b/c.py\ny\n```\nprose\n```py\nz\n```\n";
    let page = parse("p.md", text.to_owned());
    assert_eq!(page.headings, ["One", "Two"]);
    let paths = |idx: usize| -> Vec<&str> { page.projects[idx].files.iter().map(|file| file.path.as_str()).collect() };
    assert_eq!(page.projects.len(), 3);
    assert_eq!(paths(0), ["main.py"]);
    assert_eq!(paths(1), ["a.py", "b/c.py"]);
    assert_eq!(page.projects[1].words, ["runtime=gil"]);
    assert_eq!(paths(2), ["main.py"]);
    let output = page.projects[0].output.as_ref().expect("output");
    assert_eq!((output.text.as_str(), output.lines.clone()), ("found\n", 6..7));
    assert_eq!(page.projects[0].expected(), [Expected { path: "main.py".to_owned(), line: 1, rule: "r".to_owned() }]);
}
