//! Text in, text out: all fixes that the findings of a text offer, one after the other.

use facts::{Edit, Files, Finding, Fix};

use crate::{Options, check, syntax_error};

const ROUNDS_MAX: usize = 12;

fn findings(text: &str) -> (Files, Vec<Finding>) {
    let mut files = Files::default();
    files.add("main.py", text);
    let found = check(&files, &Options::default());
    (files, found)
}

fn apply(text: &str, fix: &Fix) -> String {
    let mut edits: Vec<&Edit> = fix.edits.iter().collect();
    edits.sort();
    edits.dedup();
    let (mut result, mut at) = (String::new(), 0);
    for edit in edits {
        result.push_str(&text[at..edit.span.start as usize]);
        result.push_str(&edit.text);
        at = edit.span.end as usize;
    }
    result.push_str(&text[at..]);
    result
}

/// The text after the fixes of one rule; what it offers no fix for stays.
fn fixed(rule: &str, text: &str) -> String {
    let mut text = text.to_owned();
    for _ in 0..ROUNDS_MAX {
        let (_, found) = findings(&text);
        let offered = found.into_iter().filter(|finding| finding.rule.name == rule).find_map(|finding| finding.fix);
        let Some(fix) = offered else { return text };
        text = apply(&text, &fix);
        assert_eq!(syntax_error(&text), None, "{text}");
    }
    panic!("no end of fixes:\n{text}");
}

/// Four threads run `work`.
const THREADS: &str = "for _ in range(4):\n    threading.Thread(target=work).start()\n";

#[track_caller]
fn turns(rule: &str, before: &str, after: &str) {
    assert_eq!(fixed(rule, &format!("{before}{THREADS}")), format!("{after}{THREADS}"));
}

#[test]
fn an_update_of_a_global_gets_a_lock_beside_it() {
    turns(
        "unlocked-increment",
        "import threading\n\nhits = 0  # so far\n\n\ndef work():\n    global hits\n    # count\n    hits += 1  # one more\n\n",
        "import threading\n\nhits = 0  # so far\n_hits_lock = threading.Lock()\n\n\ndef work():\n    global hits\n    # count\n    with _hits_lock:\n        hits += 1  # one more\n\n",
    );
}

#[test]
fn line_endings_and_tabs_are_those_of_the_text() {
    let before = "import threading\r\nhits = 0\r\ndef work():\r\n\tglobal hits\r\n\thits = max(\r\n\t\thits,\r\n\t\t2,\r\n\t)\r\n";
    let after = "import threading\r\nhits = 0\r\n_hits_lock = threading.Lock()\r\ndef work():\r\n\tglobal hits\r\n\twith _hits_lock:\r\n\t\thits = max(\r\n\t\t\thits,\r\n\t\t\t2,\r\n\t\t)\r\n";
    turns("unlocked-increment", before, after);
}

#[test]
fn strings_over_several_lines_keep_their_value() {
    turns(
        "unlocked-increment",
        "import threading\nlog = ''\ndef work():\n    global log\n    log = log + '''a\n  b\n''' + \\\n      'c'\n",
        "import threading\nlog = ''\n_log_lock = threading.Lock()\ndef work():\n    global log\n    with _log_lock:\n        log = log + '''a\n  b\n''' + \\\n          'c'\n",
    );
}

#[test]
fn the_import_comes_after_docstring_and_future_and_not_for_types_only() {
    let rest = "\n\ndef work():\n    with _n_lock:\n        _n[0] += 1\n\n\nstart(work)\n";
    let before = "\"\"\"Counts.\"\"\"\nfrom __future__ import annotations\n\nimport sys\nfrom typing import TYPE_CHECKING\n\nfrom pool import start\n\nif TYPE_CHECKING:\n    import threading\n_n = [0]\n";
    let text = format!("{before}{}", rest.replace("    with _n_lock:\n        _n", "    _n"));
    let threaded = text
        .replace("start(work)", "from concurrent.futures import ThreadPoolExecutor\nThreadPoolExecutor().submit(work)");
    let result = fixed("unlocked-increment", &threaded);
    // `threading` is bound by the import for types, to the same module.
    assert!(result.contains("import sys\nimport threading\nfrom typing import TYPE_CHECKING\n"), "{result}");
    assert!(result.contains("_n = [0]\n_n_lock = threading.Lock()\n"), "{result}");
}

#[test]
fn an_import_of_the_lock_itself_is_used() {
    let before = "from threading import Lock as L, Thread\nhits = 0\ndef work():\n    global hits\n    hits += 1\nfor _ in range(4):\n    Thread(target=work).start()\n";
    let result = fixed("unlocked-increment", before);
    assert!(result.starts_with("from threading import Lock as L, Thread\nhits = 0\n_hits_lock = L()\n"), "{result}");
}

#[test]
fn a_name_that_is_taken_is_not_taken_again() {
    let before = "import threading\nhits = 0\n_hits_lock = object()\ndef work():\n    global hits\n    hits += 1\n";
    let after = "import threading\nhits = 0\n_hits_mutex = threading.Lock()\n_hits_lock = object()\ndef work():\n    global hits\n    with _hits_mutex:\n        hits += 1\n";
    turns("unlocked-increment", before, after);
}

#[test]
fn statements_that_share_a_line_are_left_alone() {
    let text = "import threading\nhits = 0\ndef work():\n    global hits\n    print(); hits += 1; print()\n";
    turns("unlocked-increment", text, text);
}

#[test]
fn a_one_line_if_becomes_a_block() {
    turns(
        "unlocked-lazy-init",
        "import threading\nthings = None\ndef work():\n    global things\n    if things is None: things = []  # first\n    return things\n",
        "import threading\nthings = None\n_things_lock = threading.Lock()\ndef work():\n    global things\n    if things is None:\n        with _things_lock:\n            if things is None:\n                things = []  # first\n    return things\n",
    );
}

#[test]
fn an_elif_is_tested_again_as_an_if() {
    turns(
        "unlocked-lazy-init",
        "import threading\nthings = None\ndef work(n=0):\n    global things\n    if n:\n        return n\n    elif not things:\n        # made here\n        things = []\n    return things\n",
        "import threading\nthings = None\n_things_lock = threading.Lock()\ndef work(n=0):\n    global things\n    if n:\n        return n\n    elif not things:\n        with _things_lock:\n            if not things:\n                # made here\n                things = []\n    return things\n",
    );
}

#[test]
fn what_is_made_ready_after_the_assignment_is_published_last() {
    turns(
        "unlocked-lazy-init",
        "import threading\nthings = None\ndef work():\n    global things\n    if things is None:\n        things = []\n        things.append(1)\n        return things\n    return things\n",
        "import threading\nthings = None\n_things_lock = threading.Lock()\ndef work():\n    global things\n    if things is None:\n        with _things_lock:\n            if things is None:\n                new_things = []\n                new_things.append(1)\n                things = new_things\n                return new_things\n    return things\n",
    );
}

#[test]
fn an_object_of_threads_gets_one_lock_for_its_counters() {
    let before = "import threading\n\nclass Tally:\n    def __init__(self):\n        # counted\n        self.a = 0\n        self.b = 0\n    def add(self):\n        self.a += 1\n        if self.b < 9:\n            self.b += 1\ntally = Tally()\ndef work():\n    tally.add()\n";
    let after = "import threading\n\nclass Tally:\n    def __init__(self):\n        self._lock = threading.Lock()\n        # counted\n        self.a = 0\n        self.b = 0\n    def add(self):\n        with self._lock:\n            self.a += 1\n        if self.b < 9:\n            with self._lock:\n                self.b += 1\ntally = Tally()\ndef work():\n    tally.add()\n";
    turns("unlocked-increment", before, after);
}

#[test]
fn a_lock_is_not_held_across_an_await() {
    let text = "import asyncio\nimport threading\ntotal = 0\nasync def fetch():\n    await asyncio.sleep(1)\n    return 1\nasync def add():\n    global total\n    total += await fetch()\ndef work():\n    asyncio.run(add())\n";
    turns("unlocked-increment", text, text);
}

#[test]
fn a_loop_goes_through_a_copy() {
    turns(
        "iteration-during-mutation",
        "import threading\nseen = {}\ndef work():\n    seen[threading.get_ident()] = 1\n    for key, value in seen.items():\n        print(key, value)\n",
        "import threading\nseen = {}\ndef work():\n    seen[threading.get_ident()] = 1\n    for key, value in list(seen.items()):\n        print(key, value)\n",
    );
}

#[test]
fn a_tested_key_is_read_once() {
    turns(
        "check-then-act",
        "import threading\njobs = {'a': print}\ndef work():\n    if 'a' not in jobs:\n        return\n    jobs['a']('x')\n    jobs.pop('a', None)\n",
        "import threading\njobs = {'a': print}\ndef work():\n    job = jobs.get('a')\n    if job is None:\n        return\n    job('x')\n    jobs.pop('a', None)\n",
    );
}

#[test]
fn whoever_comes_second_leaves_by_the_other_branch() {
    turns(
        "unlocked-lazy-init",
        "import threading\nknown = {}\ndef work(k=1):\n    if k in known:\n        return known[k]\n    else:\n        known[k] = made = []\n        return made\n",
        "import threading\nknown = {}\n_known_lock = threading.Lock()\ndef work(k=1):\n    if k in known:\n        return known[k]\n    else:\n        with _known_lock:\n            if k in known:\n                return known[k]\n            known[k] = made = []\n            return made\n",
    );
}

#[test]
fn what_is_awaited_is_made_first_and_the_first_one_wins() {
    let head = "import asyncio\nimport threading\n";
    let tail = "async def make():\n    await asyncio.sleep(1)\n    return []\ndef work():\n    asyncio.run(get())\n";
    turns(
        "await-split-init",
        &format!(
            "{head}thing = None\nasync def get():\n    global thing\n    mine = thing\n    if mine is None:\n        mine = await make()\n        thing = mine\n    return mine\n{tail}"
        ),
        &format!(
            "{head}thing = None\n_thing_lock = threading.Lock()\nasync def get():\n    global thing\n    mine = thing\n    if mine is None:\n        mine = await make()\n        with _thing_lock:\n            if thing is None:\n                thing = mine\n            mine = thing\n    return mine\n{tail}"
        ),
    );
}

#[test]
fn a_lock_that_is_acquired_by_hand_is_not_held_around_it() {
    let text = "import threading\nlock = threading.Lock()\nn = 0\ndef one():\n    global n\n    with lock:\n        n += 1\ndef two():\n    global n\n    with lock:\n        n -= 1\ndef work():\n    global n\n    n = 0\n    lock.release()\n    one()\n    two()\n";
    turns("inconsistent-guard", text, text);
}

#[test]
fn a_second_test_sees_the_value_of_its_own_time() {
    let head =
        "import threading\nclass Link:\n    def __init__(self):\n        self._end = open('a')\n    def stop(self):\n";
    let tail = "        self._end = None\nlink = Link()\ndef work():\n    link.stop()\n";
    turns(
        "nulled-while-used",
        &format!(
            "{head}        if self._end:\n            self._end.flush()\n            if self._end:\n                print(1)\n{tail}"
        ),
        &format!(
            "{head}        end = self._end\n        if end:\n            end.flush()\n            if self._end:\n                print(1)\n{tail}"
        ),
    );
}

/// The rule speaks, and offers nothing.
#[track_caller]
fn is_left_alone(rule: &str, text: &str) {
    let (_, found) = findings(text);
    let mut of_rule = found.iter().filter(|finding| finding.rule.name == rule).peekable();
    assert!(of_rule.peek().is_some(), "[{rule}] is silent on\n{text}");
    assert!(of_rule.all(|finding| finding.fix.is_none()), "[{rule}] offers a fix for\n{text}");
}

/// Threads for the lines of a file, which is to be read by `many`.
fn thread_for_each(body: &str) -> String {
    format!(
        "import threading\ndone = []\ndef job(url):\n    done.append(url)\ndef many(urls):\n    for url in urls:\n{body}\
         with open('urls') as file:\n    many(file.read().split())\n"
    )
}

#[test]
fn a_pool_is_for_threads_that_only_start_and_end() {
    let made = "        t = threading.Thread(target=job, args=(url,))\n";
    let cases = [
        format!("{made}        if url:\n            t.start()\n"),
        format!("{made}        print(url)\n        t.start()\n"),
        format!("{made}        t.daemon = True\n        t.start()\n"),
        "        threading.Thread(target=job, args=(url,), daemon=True).start()\n".to_owned(),
        "        threading.Thread(\n            target=job,  # the job\n            args=(url,),\n        ).start()\n"
            .to_owned(),
    ];
    for case in &cases {
        is_left_alone("unbounded-threads", &thread_for_each(case));
    }
}

#[test]
fn a_value_that_somebody_sets_for_all_threads_is_no_context_variable() {
    let swap = "import threading\nlevel = 1\ndef work():\n    global level\n    old = level\n    level = 2\n    try:\n        print(level)\n    finally:\n        level = old\n";
    let setter = "def set_level(value):\n    global level\n    level = value\n";
    is_left_alone("save-and-restore", &format!("{swap}{setter}{THREADS}"));
    let list = "__all__ = ['level']\n";
    is_left_alone("save-and-restore", &format!("{swap}{list}{THREADS}"));
}

#[test]
fn a_thread_without_the_context_keeps_its_thread_local() {
    let text = "import asyncio\nimport threading\nctx = threading.local()\ndef job():\n    return ctx.user\n\
                async def handle(user):\n    ctx.user = user\n    loop = asyncio.get_running_loop()\n    \
                await asyncio.sleep(0)\n    print(ctx.user)\n    return await loop.run_in_executor(None, job)\n\
                async def main():\n    await asyncio.gather(handle('a'), handle('b'))\nasyncio.run(main())\n";
    is_left_alone("thread-local-in-async", text);
}

#[test]
fn a_lock_that_threads_take_is_no_lock_of_the_loop() {
    let text = "import asyncio\nimport threading\nlock = threading.Lock()\nasync def load():\n    with lock:\n        \
                await asyncio.sleep(0)\ndef work():\n    with lock:\n        print(1)\nasync def main():\n    \
                await asyncio.gather(load(), load())\nasyncio.run(main())\n";
    is_left_alone("lock-across-await", &format!("{text}{THREADS}"));
}

#[test]
fn a_lock_for_each_call_stays_where_one_for_all_would_wait_for_itself() {
    let text = "import threading\nrows = {}\ndef work(n=2):\n    with threading.Lock():\n        \
                rows[n] = rows.get(n, 0) + 1\n        if n:\n            work(n - 1)\n";
    is_left_alone("useless-lock", &format!("{text}{THREADS}"));
}

#[test]
fn an_event_that_a_helper_asks_is_not_handed_over() {
    let text = "import threading\nclass Sampler:\n    def __init__(self):\n        self._stop = threading.Event()\n    \
                def start(self):\n        self._stop.clear()\n        threading.Thread(target=self._run).start()\n    \
                def stop(self):\n        self._stop.set()\n    def _ends(self):\n        return self._stop.is_set()\n    \
                def _run(self):\n        while not self._stop.wait(1):\n            print(self._ends())\n\
                s = Sampler()\ns.start()\ns.stop()\ns.start()\n";
    is_left_alone("reused-event", text);
}
