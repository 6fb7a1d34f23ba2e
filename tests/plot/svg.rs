//! Reads back what charts write: texts with the space they take, and all coordinates.

use regex::Regex;

/// Pixels; estimated without the program's own measuring, so that a mistake there shows.
#[derive(Debug, Clone)]
pub struct Text {
    pub content: String,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    pub baseline: f64,
}

impl Text {
    pub fn meets(&self, other: &Text) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    pub fn inside(&self, (width, height): (f64, f64)) -> bool {
        self.left >= 0.0 && self.top >= 0.0 && self.right <= width && self.bottom <= height
    }
}

/// All texts of an SVG that a chart wrote.
pub fn texts(svg: &str) -> Vec<Text> {
    let pattern = r#"<text x="(-?\d+)" y="(-?\d+)" dy="0.76em" text-anchor="(\w+)" [^>]*font-size="([\d.]+)"([^>]*)>\s*([^<]*)</text>"#;
    let reader = Regex::new(pattern).unwrap();
    let found = reader.captures_iter(svg).map(|own| {
        let number = |index: usize| own[index].parse::<f64>().unwrap() / 10.0;
        let (x, y, size, content) = (number(1), number(2), number(4), unescaped(own[6].trim_end()));
        let width = estimated_width(&content, size);
        let before = match &own[3] {
            "start" => 0.0,
            "middle" => width / 2.0,
            _ => width,
        };
        let (drop, up, down) = (0.76 * size, 0.74 * size, 0.2 * size);
        if own[5].contains("rotate(270") {
            let (baseline, bottom) = (x + drop, y + before);
            return Text {
                content,
                left: baseline - up,
                right: baseline + down,
                top: bottom - width,
                bottom,
                baseline,
            };
        }
        let (left, baseline) = (x - before, y + drop);
        Text { content, left, right: left + width, top: baseline - up, bottom: baseline + down, baseline }
    });
    let found: Vec<Text> = found.collect();
    assert_eq!(found.len(), svg.matches("<text").count(), "a text has another form than this reader knows");
    found
}

/// Letters as wide as in common sans-serif fonts, in em.
fn estimated_width(text: &str, size: f64) -> f64 {
    let em = |letter: char| match letter {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | ' ' => 0.26,
        'f' | 't' | 'r' | '(' | ')' | '-' | '/' => 0.35,
        'm' | 'w' | 'M' | 'W' | '…' => 0.88,
        'A'..='Z' => 0.67,
        '가'..='힣' => 0.92,
        _ => 0.57,
    };
    text.chars().map(em).sum::<f64>() * size
}

fn unescaped(text: &str) -> String {
    let pairs = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")];
    pairs.iter().fold(text.to_string(), |text, (from, to)| text.replace(from, to))
}

/// Corners of all polylines and polygons, in pixels.
pub fn spots(svg: &str) -> Vec<(f64, f64)> {
    let pairs = Regex::new(r#"(-?\d+),(-?\d+) "#).unwrap();
    pairs
        .captures_iter(svg)
        .map(|own| (own[1].parse::<f64>().unwrap() / 10.0, own[2].parse::<f64>().unwrap() / 10.0))
        .collect()
}

/// Every tag is closed in order, attributes are quoted, and no bare `<` or `&` stands in text.
pub fn assert_well_formed(svg: &str) {
    let tag = Regex::new(r#"^<(/?)([a-z]+)((?: [a-zA-Z:-]+="[^"<]*")*)\s*(/?)>"#).unwrap();
    let entity = Regex::new(r"&(lt|gt|amp|quot|apos);").unwrap();
    let (mut open, mut rest) = (vec![], svg);
    while let Some(start) = rest.find('<') {
        let text = &rest[..start];
        assert!(!entity.replace_all(text, "").contains('&') && !text.contains('>'), "{text:?}");
        let own = tag.captures(&rest[start..]).unwrap_or_else(|| panic!("no tag: {:.120}", &rest[start..]));
        if &own[1] == "/" {
            assert_eq!(open.pop(), Some(own[2].to_string()));
        } else if own[4].is_empty() {
            open.push(own[2].to_string());
        }
        rest = &rest[start + own[0].len()..];
    }
    assert!(open.is_empty(), "{open:?} not closed");
}
