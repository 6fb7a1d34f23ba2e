//! A scene as a PDF of one page, through `pdf-writer`.
//!
//! The layout already has every position, and the fonts' outlines are at hand for PNG, so a crate that lays out or parses
//! SVG (svg2pdf, krilla) would bring its own fonts, images and parsers for nothing: pdf-writer is one small crate over ones
//! that were there. Texts are Type 3 fonts, whose glyphs are the outlines of the characters that the chart uses: that
//! needs no subsetting of font files, serves every format of font, and keeps texts searchable.

use super::glyphs::{segments_of, Glyphs, Segment};
use super::palette::{self, Colour};
use super::scene::{Label, Scene, Shape, Spot};
use crate::error::{Error, Result};
use crate::plot::charts::style::TextMode;
use ab_glyph::GlyphId;
use flate2::write::ZlibEncoder;
use flate2::Compression;
use pdf_writer::types::{LineCapStyle, LineJoinStyle, SystemInfo, UnicodeCmap};
use pdf_writer::{Content, Filter, Finish, Name, Pdf, Rect, Ref, Str, TextStr};
use std::io::Write as _;

/// Points per CSS pixel.
const SCALE: f32 = 0.75;
/// Glyphs of a Type 3 font: its codes are bytes.
const MOST_GLYPHS: usize = 256;
/// The distance of a Bézier curve's control points that makes four of them a circle.
const CIRCLE: f64 = 0.552_284_75;

/// The scene as a document with a title.
pub fn write(scene: &Scene, title: &str) -> Result<Vec<u8>> {
    let Some(glyphs) = Glyphs::of(&scene.style) else { return Err(Error::bug("the bundled font is broken")) };
    let mut page = Page { content: Content::new(), glyphs, fonts: vec![], alphas: vec![], mode: scene.style.text };
    let height = scene.height as f32 * SCALE;
    page.content.transform([SCALE, 0.0, 0.0, -SCALE, 0.0, height]);
    page.content.set_line_cap(LineCapStyle::RoundCap).set_line_join(LineJoinStyle::RoundJoin);
    page.fill(palette::of(scene.style.theme).page);
    page.content.rect(0.0, 0.0, scene.width as f32, scene.height as f32).fill_nonzero();
    scene.shapes.iter().for_each(|shape| page.shape(shape));
    page.document((scene.width as f32 * SCALE, height), title)
}

struct Page<'a> {
    content: Content,
    glyphs: Glyphs<'a>,
    fonts: Vec<Type3>,
    /// Opacities in thousandths.
    alphas: Vec<u16>,
    mode: TextMode,
}

/// Glyphs of one font file; the code of each is its index.
struct Type3 {
    face: usize,
    glyphs: Vec<(GlyphId, char)>,
}

fn point((x, y): Spot) -> (f32, f32) {
    (x as f32, y as f32)
}

impl Page<'_> {
    fn shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Polyline { spots, colour, width, dash } => {
                let (red, green, blue) = rgb(*colour);
                self.opacity(*colour);
                self.content.set_stroke_rgb(red, green, blue).set_line_width(*width as f32);
                self.content.set_dash_pattern(dash.iter().map(|length| *length as f32), 0.0);
                self.path(spots);
                self.content.stroke();
            }
            Shape::Polygon { spots, colour } => {
                self.fill(*colour);
                self.path(spots);
                self.content.close_path().fill_nonzero();
            }
            Shape::Circle { centre, radius, colour } => {
                self.fill(*colour);
                self.circle(*centre, *radius);
                self.content.fill_nonzero();
            }
            Shape::Text(label) if self.mode == TextMode::Outlines => {
                self.fill(label.colour);
                let segments = self.glyphs.outlines(label);
                if !segments.is_empty() {
                    outline(&mut self.content, &segments);
                    self.content.fill_nonzero();
                }
            }
            Shape::Text(label) => self.text(label),
            Shape::Series { shapes, .. } => shapes.iter().for_each(|shape| self.shape(shape)),
        }
    }

    fn fill(&mut self, colour: Colour) {
        let (red, green, blue) = rgb(colour);
        self.opacity(colour);
        self.content.set_fill_rgb(red, green, blue);
    }

    fn opacity(&mut self, colour: Colour) {
        let alpha = (colour.alpha.clamp(0.0, 1.0) * 1000.0).round() as u16;
        let index = self.alphas.iter().position(|known| *known == alpha).unwrap_or_else(|| {
            self.alphas.push(alpha);
            self.alphas.len() - 1
        });
        self.content.set_parameters(Name(format!("a{index}").as_bytes()));
    }

    fn path(&mut self, spots: &[Spot]) {
        for (index, spot) in spots.iter().enumerate() {
            let (x, y) = point(*spot);
            if index == 0 {
                self.content.move_to(x, y);
            } else {
                self.content.line_to(x, y);
            }
        }
    }

    fn circle(&mut self, (x, y): Spot, radius: f64) {
        let handle = radius * CIRCLE;
        let segments = [
            Segment::Move((x + radius, y)),
            Segment::Cubic((x + radius, y + handle), (x + handle, y + radius), (x, y + radius)),
            Segment::Cubic((x - handle, y + radius), (x - radius, y + handle), (x - radius, y)),
            Segment::Cubic((x - radius, y - handle), (x - handle, y - radius), (x, y - radius)),
            Segment::Cubic((x + handle, y - radius), (x + radius, y - handle), (x + radius, y)),
        ];
        outline(&mut self.content, &segments);
    }

    /// Shows a label in pieces, one for each font that it needs.
    fn text(&mut self, label: &Label) {
        self.fill(label.colour);
        let run = self.glyphs.run(label);
        let coded: Vec<(usize, u8, f64)> = run
            .iter()
            .map(|glyph| {
                let (font, code) = self.code(glyph.face, glyph.id, glyph.character);
                (font, code, glyph.x)
            })
            .collect();
        let (size, (x, y)) = (label.size as f32, label.at);
        self.content.begin_text();
        for piece in coded.chunk_by(|one, two| one.0 == two.0) {
            let (font, _, offset) = piece[0];
            let codes: Vec<u8> = piece.iter().map(|(_, code, _)| *code).collect();
            // The picture's y points down, and that of a text up.
            let matrix = if label.upright {
                let (x, y) = point((x, y - offset));
                [0.0, -size, -size, 0.0, x, y]
            } else {
                let (x, y) = point((x + offset, y));
                [size, 0.0, 0.0, -size, x, y]
            };
            self.content.set_font(Name(format!("f{font}").as_bytes()), 1.0).set_text_matrix(matrix).show(Str(&codes));
        }
        self.content.end_text();
    }

    /// The font and the code of a glyph, which are new where the glyph is.
    fn code(&mut self, face: usize, id: GlyphId, character: char) -> (usize, u8) {
        for (index, font) in self.fonts.iter().enumerate().filter(|(_, font)| font.face == face) {
            if let Some(code) = font.glyphs.iter().position(|(known, _)| *known == id) {
                return (index, code as u8);
            }
        }
        let has_room = |font: &&mut Type3| font.face == face && font.glyphs.len() < MOST_GLYPHS;
        if self.fonts.iter_mut().find(has_room).is_none() {
            self.fonts.push(Type3 { face, glyphs: vec![] });
        }
        let font = self.fonts.iter().position(|font| font.face == face && font.glyphs.len() < MOST_GLYPHS).unwrap_or(0);
        self.fonts[font].glyphs.push((id, character));
        (font, (self.fonts[font].glyphs.len() - 1) as u8)
    }

    fn document(self, (width, height): (f32, f32), title: &str) -> Result<Vec<u8>> {
        let mut next = 0;
        let mut new = || {
            next += 1;
            Ref::new(next)
        };
        let (catalog, pages, page, content, info) = (new(), new(), new(), new(), new());
        let fonts: Vec<Ref> = self.fonts.iter().map(|_| new()).collect();
        let mut pdf = Pdf::new();
        pdf.catalog(catalog).pages(pages);
        pdf.pages(pages).kids([page]).count(1);
        pdf.document_info(info).title(TextStr(title)).producer(TextStr("lorhai"));
        let mut written = pdf.page(page);
        written.parent(pages).media_box(Rect::new(0.0, 0.0, width, height)).contents(content);
        let mut resources = written.resources();
        let mut states = resources.ext_g_states();
        for (index, alpha) in self.alphas.iter().enumerate() {
            let alpha = f32::from(*alpha) / 1000.0;
            let mut state =
                states.insert(Name(format!("a{index}").as_bytes())).start::<pdf_writer::writers::ExtGraphicsState>();
            state.stroking_alpha(alpha).non_stroking_alpha(alpha);
        }
        states.finish();
        if !fonts.is_empty() {
            let mut named = resources.fonts();
            for (index, font) in fonts.iter().enumerate() {
                named.pair(Name(format!("f{index}").as_bytes()), *font);
            }
        }
        resources.finish();
        written.finish();
        let body = compressed(&self.content.finish())?;
        pdf.stream(content, &body).filter(Filter::FlateDecode);
        for (font, id) in self.fonts.iter().zip(fonts) {
            write_font(&mut pdf, font, id, &self.glyphs, &mut new)?;
        }
        Ok(pdf.finish())
    }
}

fn write_font(pdf: &mut Pdf, font: &Type3, id: Ref, glyphs: &Glyphs, new: &mut impl FnMut() -> Ref) -> Result<()> {
    let unit = 1.0 / glyphs.units_per_em(font.face) as f32;
    let names: Vec<String> = (0..font.glyphs.len()).map(|code| format!("g{code}")).collect();
    let (procs, map): (Vec<Ref>, Ref) = (font.glyphs.iter().map(|_| new()).collect(), new());
    let advance = |(glyph, _): &(GlyphId, char)| glyphs.advance(font.face, *glyph) as f32;
    let mut cmap = UnicodeCmap::<u8>::new(
        Name(b"Lorhai-UCS"),
        SystemInfo { registry: Str(b"Adobe"), ordering: Str(b"UCS"), supplement: 0 },
    );
    let mut bounds = Rect::new(0.0, 0.0, 0.0, 0.0);
    for (code, ((glyph, character), proc)) in font.glyphs.iter().zip(&procs).enumerate() {
        let mut content = Content::new();
        let outlined = glyphs.outline(font.face, *glyph);
        let around = outlined.as_ref().map_or(Rect::new(0.0, 0.0, 0.0, 0.0), |outline| {
            let (min, max) = (outline.bounds.min, outline.bounds.max);
            Rect::new(min.x.min(max.x), min.y.min(max.y), min.x.max(max.x), min.y.max(max.y))
        });
        content.start_shape_glyph(advance(&(*glyph, *character)), around.x1, around.y1, around.x2, around.y2);
        let place = |point: ab_glyph::Point| (f64::from(point.x), f64::from(point.y));
        let segments = outlined.map_or(vec![], |one| segments_of(&one, place));
        if !segments.is_empty() {
            outline(&mut content, &segments);
            content.fill_nonzero();
        }
        let body = compressed(&content.finish())?;
        pdf.stream(*proc, &body).filter(Filter::FlateDecode);
        cmap.pair(code as u8, *character);
        bounds = Rect::new(
            bounds.x1.min(around.x1),
            bounds.y1.min(around.y1),
            bounds.x2.max(around.x2),
            bounds.y2.max(around.y2),
        );
    }
    pdf.cmap(map, &cmap.finish());
    let mut written = pdf.type3_font(id);
    written.bbox(bounds).matrix([unit, 0.0, 0.0, unit, 0.0, 0.0]).to_unicode(map);
    written.char_procs().pairs(names.iter().map(|name| Name(name.as_bytes())).zip(procs));
    let listed = names.iter().map(|name| Name(name.as_bytes()));
    written.encoding_custom().differences().consecutive(0, listed);
    written.first_char(0).last_char((font.glyphs.len() - 1) as u8).widths(font.glyphs.iter().map(advance));
    written.resources().finish();
    Ok(())
}

fn outline(content: &mut Content, segments: &[Segment]) {
    let mut at = (0.0, 0.0);
    for segment in segments {
        match segment {
            Segment::Move(to) => {
                content.move_to(to.0 as f32, to.1 as f32);
                at = *to;
            }
            Segment::Line(to) => {
                content.line_to(to.0 as f32, to.1 as f32);
                at = *to;
            }
            Segment::Quad(control, to) => {
                // The cubic curve that is the same: its handles are two thirds of the way to the control point.
                let toward =
                    |end: Spot| (end.0 + (control.0 - end.0) * 2.0 / 3.0, end.1 + (control.1 - end.1) * 2.0 / 3.0);
                cubic(content, toward(at), toward(*to), *to);
                at = *to;
            }
            Segment::Cubic(one, two, to) => {
                cubic(content, *one, *two, *to);
                at = *to;
            }
        }
    }
}

fn cubic(content: &mut Content, one: Spot, two: Spot, to: Spot) {
    let ((x1, y1), (x2, y2), (x, y)) = (point(one), point(two), point(to));
    content.cubic_to(x1, y1, x2, y2, x, y);
}

fn rgb(colour: Colour) -> (f32, f32, f32) {
    let part = |value: u8| f32::from(value) / 255.0;
    (part(colour.rgb.0), part(colour.rgb.1), part(colour.rgb.2))
}

fn compressed(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ZlibEncoder::new(vec![], Compression::default());
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .map_err(|error| Error::bug(format!("cannot compress the chart: {error}")))
}
