//! Reads the SVG of charts: texts with the space that they occupy, and all coordinates.

use regex::Regex;

/// In pixels, and estimated without the program's font metrics, so that mistakes in those are seen.
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

/// All texts of a chart's SVG.
pub fn texts(svg: &str) -> Vec<Text> {
    let pattern = r#"<text x="(-?\d+)" y="(-?\d+)" dy="0.76em" text-anchor="(\w+)" [^>]*font-size="([\d.]+)"([^>]*)>\s*([^<]*)</text>"#;
    let reader = Regex::new(pattern).unwrap();
    let texts = reader.captures_iter(svg).map(|captures| {
        let number = |index: usize| captures[index].parse::<f64>().unwrap() / 10.0;
        let (x, y, size, content) = (number(1), number(2), number(4), unescaped(captures[6].trim_end()));
        let width = estimated_width(&content, size);
        let before = match &captures[3] {
            "start" => 0.0,
            "middle" => width / 2.0,
            _ => width,
        };
        let (drop, up, down) = (0.76 * size, 0.74 * size, 0.2 * size);
        if captures[5].contains("rotate(270") {
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
    let texts: Vec<Text> = texts.collect();
    assert_eq!(texts.len(), svg.matches("<text").count(), "the reader does not understand every text");
    texts
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
        .map(|captures| (captures[1].parse::<f64>().unwrap() / 10.0, captures[2].parse::<f64>().unwrap() / 10.0))
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
        let captures = tag.captures(&rest[start..]).unwrap_or_else(|| panic!("no tag: {:.120}", &rest[start..]));
        if &captures[1] == "/" {
            assert_eq!(open.pop(), Some(captures[2].to_string()));
        } else if captures[4].is_empty() {
            open.push(captures[2].to_string());
        }
        rest = &rest[start + captures[0].len()..];
    }
    assert!(open.is_empty(), "{open:?} not closed");
}

/// Width and height of a chart's SVG, in pixels.
pub fn size(svg: &str) -> (f64, f64) {
    let root = Regex::new(r#"<svg [^>]*?width="([\d.]+)" height="([\d.]+)""#).unwrap().captures(svg).unwrap();
    (root[1].parse().unwrap(), root[2].parse().unwrap())
}

/// The middles of circles and polygons, in pixels.
pub fn marks(svg: &str) -> Vec<(f64, f64)> {
    let circles = Regex::new(r#"<circle cx="(-?\d+)" cy="(-?\d+)""#).unwrap();
    let number = |text: &str| text.parse::<f64>().unwrap() / 10.0;
    let mut marks: Vec<(f64, f64)> = circles.captures_iter(svg).map(|one| (number(&one[1]), number(&one[2]))).collect();
    for polygon in Regex::new(r#"<polygon [^>]*points="([^"]*)""#).unwrap().captures_iter(svg) {
        let corners: Vec<(f64, f64)> = polygon[1]
            .split_whitespace()
            .filter_map(|pair| pair.split_once(','))
            .map(|(x, y)| (number(x), number(y)))
            .collect();
        let count = corners.len().max(1) as f64;
        let sums = corners.iter().fold((0.0, 0.0), |sums, corner| (sums.0 + corner.0, sums.1 + corner.1));
        marks.push((sums.0 / count, sums.1 / count));
    }
    marks
}
