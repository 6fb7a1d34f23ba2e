//! A scene as a PNG image, through plotters' bitmap backend.
//!
//! The backend takes whole pixels, so shapes are drawn several times larger and averaged
//! down. Texts are drawn from the outlines of their fonts directly, because
//! plotters' own text drops the space before each glyph.

use super::glyphs::Glyphs;
use super::marks;
use super::palette::{self, Colour};
use super::scene::{Label, Scene, Shape, Spot};
use crate::error::{Error, Result};
use ab_glyph::{point, OutlinedGlyph, PxScale, PxScaleFactor};
use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::{Color, RGBAColor};

/// The most pixels of the image, and of the larger drawing that is averaged down to it unless the image
/// alone has more.
const MOST_PIXELS: f64 = 64e6;
const MOST_DRAWN: f64 = 20e6;

/// # Errors
/// More than 64 million pixels.
pub fn write(scene: &Scene, scale: f64) -> Result<Vec<u8>> {
    let (width, height) = ((scene.width * scale).round(), (scene.height * scale).round());
    if width * height > MOST_PIXELS {
        return Err(Error::input(format!("expected a PNG of at most 64 million pixels, found {width} x {height}"))
            .with_hint("choose a smaller size or scale, or write SVG, which has no pixels"));
    }
    let finer = (1..=4).rev().find(|times| width * height * f64::from(times * times) <= MOST_DRAWN).unwrap_or(1);
    let size = (width as u32 * finer, height as u32 * finer);
    let (red, green, blue) = palette::of(scene.style.theme).page.rgb;
    let mut drawn = [red, green, blue].repeat(size.0 as usize * size.1 as usize);
    let Some(glyphs) = Glyphs::of(&scene.style) else { return Err(Error::bug("the bundled font is broken")) };
    let backend = BitMapBackend::with_buffer(&mut drawn, size);
    let mut canvas = Canvas { backend, glyphs, unit: scale * f64::from(finer) };
    let painted = scene.shapes.iter().try_for_each(|shape| canvas.draw(shape));
    drop(canvas);
    painted.map_err(|error| Error::bug(format!("cannot draw the chart: {error}")))?;
    encoded(&averaged(&drawn, size.0 as usize, finer as usize), width as u32, height as u32)
}

struct Canvas<'a> {
    backend: BitMapBackend<'a>,
    glyphs: Glyphs<'a>,
    /// Pixels of the drawing per CSS pixel.
    unit: f64,
}

type Drawing = std::result::Result<(), String>;

impl Canvas<'_> {
    fn draw(&mut self, shape: &Shape) -> Drawing {
        match shape {
            Shape::Polyline { spots, colour, width, dash } => {
                marks::strokes(spots, dash).iter().try_for_each(|part| self.stroke(part, *width, *colour))
            }
            Shape::Polygon { spots, colour } => {
                let spots: Vec<(i32, i32)> = spots.iter().map(|spot| self.rounded(*spot)).collect();
                self.backend.fill_polygon(spots, &ink(*colour)).map_err(|error| error.to_string())
            }
            Shape::Circle { centre, radius, colour } => self.disc(*centre, *radius, *colour),
            Shape::Text(label) => self.text(label),
            Shape::Series { shapes, .. } => shapes.iter().try_for_each(|shape| self.draw(shape)),
        }
    }

    /// Draws a line as a bar for each segment with discs at the joins, which have no spikes as mitres do.
    fn stroke(&mut self, spots: &[Spot], width: f64, colour: Colour) -> Drawing {
        // The backend fills both edges of a bar, which makes it one drawn pixel wider.
        let half = (width - 1.0 / self.unit).max(0.0) / 2.0;
        for pair in spots.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            let length = (x1 - x0).hypot(y1 - y0);
            if length == 0.0 {
                continue;
            }
            let (dx, dy) = ((y1 - y0) / length * half, -(x1 - x0) / length * half);
            let corners = [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)];
            let corners = corners.map(|corner| self.rounded(corner));
            self.backend.fill_polygon(corners, &ink(colour)).map_err(|error| error.to_string())?;
        }
        let joins = spots.get(1..spots.len().saturating_sub(1)).unwrap_or(&[]);
        joins.iter().try_for_each(|join| self.disc(*join, width / 2.0, colour))
    }

    fn disc(&mut self, centre: Spot, radius: f64, colour: Colour) -> Drawing {
        let radius = (radius * self.unit - 0.5).round().max(1.0) as u32;
        let centre = self.rounded(centre);
        self.backend.draw_circle(centre, radius, &ink(colour), true).map_err(|error| error.to_string())
    }

    fn text(&mut self, label: &Label) -> Drawing {
        let large = Label { size: label.size * self.unit, ..label.clone() };
        let origin = (label.at.0 * self.unit, label.at.1 * self.unit);
        for glyph in self.glyphs.run(&large) {
            let factor = (large.size / self.glyphs.units_per_em(glyph.face)) as f32;
            let Some(outline) = self.glyphs.outline(glyph.face, glyph.id) else { continue };
            // The scale is given to the outline, which does not read that of the glyph.
            let placed = glyph.id.with_scale_and_position(PxScale::from(1.0), point(glyph.x as f32, 0.0));
            let factors = PxScaleFactor { horizontal: factor, vertical: factor };
            self.glyph(&OutlinedGlyph::new(placed, outline, factors), origin, label)?;
        }
        Ok(())
    }

    fn glyph(&mut self, outline: &OutlinedGlyph, origin: Spot, label: &Label) -> Drawing {
        let corner = outline.px_bounds().min;
        let (width, height) = self.backend.get_size();
        let mut result = Ok(());
        outline.draw(|column, row, cover| {
            let along = f64::from(corner.x) + f64::from(column);
            let down = f64::from(corner.y) + f64::from(row);
            let (x, y) =
                if label.upright { (origin.0 + down, origin.1 - along) } else { (origin.0 + along, origin.1 + down) };
            let inside = x >= 0.0 && y >= 0.0 && x < f64::from(width) && y < f64::from(height);
            if inside && cover > 0.0 && result.is_ok() {
                let colour = label.colour.with_alpha(f64::from(cover.min(1.0)));
                let drawn = self.backend.draw_pixel((x as i32, y as i32), ink(colour).to_backend_color());
                result = drawn.map_err(|error| error.to_string());
            }
        });
        result
    }

    /// The backend addresses pixels by their corners, and shapes give the middle of a pixel.
    fn rounded(&self, (x, y): Spot) -> (i32, i32) {
        let pixel = |pixels: f64| (pixels * self.unit - 0.5).round() as i32;
        (pixel(x), pixel(y))
    }
}

fn ink(colour: Colour) -> RGBAColor {
    RGBAColor(colour.rgb.0, colour.rgb.1, colour.rgb.2, colour.alpha)
}

/// Each pixel the mean of `finer` by `finer` drawn ones; `wide` is the drawing's width.
fn averaged(drawn: &[u8], wide: usize, finer: usize) -> Vec<u8> {
    let (columns, count) = (wide / finer, (finer * finer) as u32);
    let mut pixels = Vec::with_capacity(drawn.len() / (finer * finer));
    let mut sums = vec![[0_u32; 3]; columns];
    for rows in drawn.chunks_exact(wide * 3 * finer) {
        sums.fill([0; 3]);
        for row in rows.chunks_exact(wide * 3) {
            // Sixteen bytes are read for each one that is written: without a division for each.
            for (sum, block) in sums.iter_mut().zip(row.chunks_exact(3 * finer)) {
                for pixel in block.chunks_exact(3) {
                    sum[0] += u32::from(pixel[0]);
                    sum[1] += u32::from(pixel[1]);
                    sum[2] += u32::from(pixel[2]);
                }
            }
        }
        pixels.extend(sums.iter().flatten().map(|sum| ((sum + count / 2) / count) as u8));
    }
    pixels
}

fn encoded(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>> {
    let failed = |error: png::EncodingError| Error::bug(format!("cannot encode the chart as PNG: {error}"));
    let mut bytes = vec![];
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(pixels).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::averaged;

    #[test]
    fn averaging_takes_square_blocks() {
        let drawn: Vec<u8> = [[0, 100, 200, 200], [100, 200, 200, 200]].concat().iter().flat_map(|v| [*v; 3]).collect();
        assert_eq!(averaged(&drawn, 4, 2), [100, 100, 100, 200, 200, 200]);
    }
}
