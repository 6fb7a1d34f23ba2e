//! Scripts that grow, nest or call without end.

use super::Job;

/// Each of these takes ever more memory, or ever more depth.
const GROWING: &[(&str, &str)] = &[
    ("text doubled", r#"let s = "ab"; loop { s += s; }"#),
    ("text doubled by +", r#"let s = "ab"; loop { s = s + s; }"#),
    ("text interpolated", r#"let s = "ab"; loop { s = `${s}${s}${s}`; }"#),
    ("text by characters", r#"let s = "a"; loop { s += 'b'; s += s; }"#),
    ("text in upper case", r#"let s = "ŉ"; loop { s = s.to_upper() + s; }"#),
    ("text padded", r#"let s = "a"; let n = 1; loop { n *= 4; s.pad(n, 'x'); }"#),
    ("text padded by a text", r#"let s = "a"; s.pad(9223372036854775807, "xyz");"#),
    ("text replaced", r#"let s = "aa"; loop { let t = s; s.replace("a", t); }"#),
    ("text replaced between all", r#"let s = "aa"; loop { let t = s; s.replace("", t); }"#),
    ("text split", r#"let s = "a,"; for i in 0..28 { s += s; } let a = []; loop { a.push(s.split(",")); }"#),
    ("text to characters", r#"let s = "a,"; for i in 0..28 { s += s; } let a = []; loop { a.push(s.to_chars()); }"#),
    ("text to bytes", r#"let s = "a,"; for i in 0..28 { s += s; } let a = []; loop { a.push(s.to_blob()); }"#),
    ("array doubled", r#"let a = [1]; loop { a += a; }"#),
    ("array appended", r#"let a = [1]; loop { a.append(a); }"#),
    ("array by +", r#"let a = [1]; loop { a = a + a; }"#),
    ("array pushed into itself", r#"let a = [1]; loop { a.push(a); }"#),
    ("array of copies", r#"let a = [1]; loop { a = [a, a, a, a]; }"#),
    ("array inserted", r#"let a = [1]; loop { a.insert(0, a); }"#),
    ("array padded", r#"let a = []; let n = 1; loop { n *= 4; a.pad(n, [1]); }"#),
    ("array padded to the end", r#"let a = []; a.pad(9223372036854775807, 1);"#),
    ("array padded with itself", r#"let a = [1]; loop { a.pad(a.len() * 2, a); }"#),
    ("array mapped", r#"let a = [1]; loop { let b = a; a = a.map(|x| b); }"#),
    ("array spliced", r#"let a = [1, 2]; loop { a.splice(1, 0, a); }"#),
    ("array nested", r#"let a = [1]; loop { a = [take(a)]; }"#),
    ("array nested by push", r#"let a = []; loop { let b = []; b.push(take(a)); a = b; }"#),
    ("array of one text printed", r#"let s = "x"; for i in 0..25 { s += s; } let a = []; a.pad(100000, s); print(a);"#),
    (
        "array of one text joined",
        r#"let s = "x"; for i in 0..25 { s += s; } let a = []; a.pad(100000, s); let t = "" + a;"#,
    ),
    (
        "array of one text as JSON",
        r#"let s = "x"; for i in 0..25 { s += s; } let a = []; a.pad(100000, s); write_json("runs/x.json", a);"#,
    ),
    (
        "rows of one text",
        r#"let s = "x"; for i in 0..25 { s += s; } let a = []; a.pad(100000, #{ text: s }); dataset(a);"#,
    ),
    ("map of maps", r#"let m = #{}; let i = 0; loop { m[`${i}`] = m; i += 1; }"#),
    ("map nested", r#"let m = #{}; loop { m = #{ a: take(m) }; }"#),
    (
        "map mixed",
        r#"let m = #{}; let i = 0; loop { let n = #{}; for k in m.keys() { n[k + i] = m; } n[`${i}`] = 1; m += n; i += 1; }"#,
    ),
    ("map to JSON", r#"let m = #{}; let i = 0; loop { m[`${i}`] = m.to_json(); i += 1; }"#),
    (
        "map of one text printed",
        r#"let s = "x"; for i in 0..25 { s += s; } let m = #{}; for i in 0..100000 { m[`${i}`] = s; } debug(m);"#,
    ),
    ("bytes doubled", r#"let b = blob(2, 1); loop { b += b; }"#),
    ("bytes without end", r#"blob(9223372036854775807);"#),
    ("bytes of 100 GB", r#"blob(100000000000, 7);"#),
    ("bytes padded", r#"let b = blob(1); b.pad(1000000000000, 1);"#),
    ("bytes to ints", r#"let b = blob(1); b.pad(400000000, 1); let a = []; loop { a.push(b.to_array()); }"#),
    ("curried functions", r#"fn f(x) { x } let a = Fn("f"); loop { let g = Fn("f"); a = g.curry(take(a)); }"#),
    (
        "curried functions copied",
        r#"fn f(x) { x } let a = Fn("f"); for i in 0..3000000 { let g = Fn("f"); a = g.curry(take(a)); } let b = a; print(b);"#,
    ),
    (
        "curried functions shown",
        r#"fn f(x) { x } let a = Fn("f"); for i in 0..300000 { let g = Fn("f"); a = g.curry(take(a)); } debug(a); let b = a; print(`${b}`); b == a;"#,
    ),
    (
        "curried functions as JSON",
        r#"fn f(x) { x } let a = Fn("f"); for i in 0..300000 { let g = Fn("f"); a = g.curry(take(a)); } write_json("runs/x.json", [a]);"#,
    ),
    ("curried twice", r#"fn f(x, y) { x } let a = Fn("f"); loop { a = Fn("f").curry(a).curry(a); }"#),
    ("closures nested", r#"let f = || 0; loop { let g = f; f = || g.call(); }"#),
    ("closures nested in maps", r#"let f = #{ f: || 0 }; loop { let g = f; f = #{ f: || g }; }"#),
    ("closures in arrays", r#"let a = []; loop { let x = a; a.push(|| x); }"#),
    (
        "parsed JSON",
        r#"let s = "[0"; for i in 0..27 { s += ",[]"; s += ""; } let t = "[" + s + "]" + "]"; loop { t = "[" + t + "," + t + "]"; parse_json(t); }"#,
    ),
    ("deep JSON", r#"let s = ""; s.pad(2000000, '['); parse_json(s);"#),
    ("rows of themselves", r#"let d = [#{ a: 1 }]; loop { d += d; dataset(d); }"#),
    ("data sets joined", r#"let d = dataset([#{ a: 1 }]); loop { d = d.concatenate(d); }"#),
    ("shared cell in itself", r#"let a = []; let f = || a; loop { a.push(f); a += a; }"#),
    ("sorted by growth", r#"let a = [3, 2, 1]; let b = [1]; a.sort(|x, y| { b += b; x - y }); loop { b += b; }"#),
    ("filtered by growth", r#"let b = [1]; loop { [1, 2].filter(|x| { b += b; true }); }"#),
    (
        "reduced",
        r#"let a = [1, 2, 3, 4]; loop { a = a.reduce(|sum, x| { sum += [x]; sum += sum; sum }, []); a += a; }"#,
    ),
    ("zipped", r#"let a = [1]; loop { a = a.zip(a, |x, y| [x, y, a]); }"#),
    ("ranges", r#"let a = []; for i in 0..9223372036854775807 { a.push(i); a.push(`a text of its own ${i}`); }"#),
];

/// These end, or need Ctrl-C, without growing.
const OTHERS: &[(&str, &str)] = &[
    ("endless loop", "loop {}"),
    ("endless count", "let i = 0; while true { i += 1; }"),
    ("endless padding", r#"let s = "x"; s.pad(10, "");"#),
    ("recursion", "fn f(n) { f(n + 1) } f(0);"),
    ("mutual recursion", "fn f(n) { g(n) } fn g(n) { f(n) } f(0);"),
    ("recursion of closures", "let f = |g| g.call(g); f.call(f);"),
    ("recursion in a comparer", "fn f(a, b) { [2, 1].sort(|x, y| f(x, y)); 0 } f(1, 2);"),
    ("recursion in a map", "fn f(x) { [x].map(|y| f(y)) } f(1);"),
    ("recursion by interpolation", "fn f(x) { `${f(x)}` } f(1);"),
    ("recursion of properties", "let m = #{}; m.f = |x| this.f(x); m.f(1);"),
    ("deep parentheses", "PARENTHESES"),
    ("deep blocks", "BLOCKS"),
    ("deep arrays", "ARRAYS"),
    ("deep additions", "ADDITIONS"),
    ("deep negations", "NEGATIONS"),
    ("long line", "LONG"),
    ("many functions", "FUNCTIONS"),
    ("import of itself", r#"import "job0" as a;"#),
    ("comparer that contradicts itself", "let a = []; for i in 0..5000 { a.push(i); } let n = 0; a.sort(|x, y| { n += 1; if n % 3 == 0 { -1 } else { 1 } });"),
    ("int overflow", "9223372036854775807 + 1;"),
    ("least int negated", "-(-9223372036854775807 - 1);"),
    ("least int divided", "(-9223372036854775807 - 1) / -1;"),
    ("power", "9223372036854775807 ** 9223372036854775807;"),
    ("shift", "1 << 9223372036854775807;"),
    ("negative index", "[1][-9223372036854775807 - 1];"),
    ("text index", r#""abc"[9223372036854775807];"#),
    ("bits", "let x = 1; x[64];"),
    ("crop", r#"let s = "abc"; s.crop(-9223372036854775807, 9223372036854775807); s.sub_string(9223372036854775807);"#),
    ("range step", "for i in range(0, 10, 0) { print(i); }"),
    ("range step backwards", "for i in range(0, 9223372036854775807, 9223372036854775807) { print(i); }"),
    ("thrown map", "let m = #{}; m.message = m; m.hint = m; throw m;"),
    ("thrown long text", r#"let s = "x"; for i in 0..26 { s += s; } throw s;"#),
    ("caught for ever", "loop { try { throw 1; } catch { } }"),
    ("tag", "let a = [1]; a.tag = 9223372036854775807;"),
    ("sleep", "sleep(9223372036854775807);"),
    ("sleep for no time", "sleep(0.0 / 0.0);"),
    ("exit", "exit([1]);"),
    ("eval", "eval(\"1\");"),
    ("timestamps", "let t = timestamp(); t - 9223372036854775807; t + 1e300;"),
    ("numbers read", r#"parse_int("99999999999999999999"); "#),
    ("float to int", "let x = 1e300; x.to_int();"),
];

pub fn all() -> Vec<Job> {
    let mut jobs = Vec::new();
    for (name, body) in GROWING {
        jobs.push(job(name.to_string(), body.to_string()));
        jobs.push(job(format!("{name}, in a function"), in_function(body)));
        jobs.push(job(
            format!("{name}, in a closure"),
            format!("[1].for_each(|x| {{ {} }});", without_functions(body)),
        ));
        jobs.push(job(
            format!("{name}, in a function of rows"),
            format!("{}\ndataset([#{{ a: 1 }}]).map(|row| {{ {} row }});", functions(body), without_functions(body)),
        ));
        jobs.push(job(
            format!("{name}, in a comparer"),
            format!("{}\n[2, 1].sort(|x, y| {{ {} 0 }});", functions(body), without_functions(body)),
        ));
        jobs.push(job(
            format!("{name}, caught again and again"),
            format!("{}\nloop {{ try {{ {} }} catch {{ }} }}", functions(body), without_functions(body)),
        ));
    }
    jobs.extend(OTHERS.iter().map(|(name, body)| job(name.to_string(), expanded(body))));
    jobs
}

fn job(name: String, script: String) -> Job {
    Job { name, script }
}

/// The declarations that a body begins with: they must stand at the top of a script.
fn functions(body: &str) -> &str {
    if body.starts_with("fn ") {
        &body[..body.find('}').map_or(0, |at| at + 1)]
    } else {
        ""
    }
}

fn without_functions(body: &str) -> &str {
    &body[functions(body).len()..]
}

fn in_function(body: &str) -> String {
    format!("{}\nfn bomb() {{ {} }}\nbomb();", functions(body), without_functions(body))
}

fn expanded(body: &str) -> String {
    let nested = |open: &str, close: &str, count: usize| format!("{}1{};", open.repeat(count), close.repeat(count));
    match body {
        "PARENTHESES" => nested("(", ")", 100_000),
        "BLOCKS" => nested("{", "}", 100_000),
        "ARRAYS" => nested("[", "]", 100_000),
        "ADDITIONS" => nested("1+", "", 500_000),
        "NEGATIONS" => nested("-", "", 100_000),
        "LONG" => format!("let s = \"{}\"; print(s.len());", "x".repeat(20_000_000)),
        "FUNCTIONS" => (0..100_000).map(|at| format!("fn f{at}(x) {{ x }}\n")).collect(),
        other => other.to_string(),
    }
}
