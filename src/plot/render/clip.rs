//! Lines and areas cut at the edges of the panel.

use super::scene::{Rect, Spot};

/// The parts of the polyline inside `panel` (Liang and Barsky's method, segment by segment).
pub fn polyline(spots: &[Spot], panel: &Rect) -> Vec<Vec<Spot>> {
    if spots.iter().all(|spot| panel.holds(*spot)) {
        return vec![spots.to_vec()];
    }
    let mut parts: Vec<Vec<Spot>> = vec![];
    for pair in spots.windows(2) {
        let Some((from, to)) = segment(pair[0], pair[1], panel) else { continue };
        match parts.last_mut() {
            Some(part) if part.last() == Some(&from) => part.push(to),
            _ => parts.push(vec![from, to]),
        }
    }
    parts
}

fn segment((x0, y0): Spot, (x1, y1): Spot, panel: &Rect) -> Option<(Spot, Spot)> {
    let (dx, dy) = (x1 - x0, y1 - y0);
    let (mut enter, mut leave) = (0.0_f64, 1.0_f64);
    for (step, room) in [(-dx, x0 - panel.left), (dx, panel.right - x0), (-dy, y0 - panel.top), (dy, panel.bottom - y0)]
    {
        if step == 0.0 {
            if room < 0.0 {
                return None;
            }
        } else if step < 0.0 {
            enter = enter.max(room / step);
        } else {
            leave = leave.min(room / step);
        }
    }
    let at = |t: f64| {
        if t == 0.0 {
            (x0, y0)
        } else if t == 1.0 {
            (x1, y1)
        } else {
            (x0 + t * dx, y0 + t * dy)
        }
    };
    (enter <= leave).then(|| (at(enter), at(leave)))
}

/// The polygon inside `panel` (Sutherland and Hodgman's method, edge by edge).
pub fn polygon(spots: &[Spot], panel: &Rect) -> Vec<Spot> {
    let mut kept = spots.to_vec();
    let edges: [(bool, f64, f64); 4] =
        [(true, panel.left, 1.0), (true, panel.right, -1.0), (false, panel.top, 1.0), (false, panel.bottom, -1.0)];
    for (across, edge, side) in edges {
        let depth = |spot: Spot| side * (if across { spot.0 } else { spot.1 } - edge);
        let mut next = vec![];
        for (index, &to) in kept.iter().enumerate() {
            let from = kept[(index + kept.len() - 1) % kept.len()];
            let (before, after) = (depth(from), depth(to));
            if (before < 0.0) != (after < 0.0) {
                let t = before / (before - after);
                next.push((from.0 + t * (to.0 - from.0), from.1 + t * (to.1 - from.1)));
            }
            if after >= 0.0 {
                next.push(to);
            }
        }
        kept = next;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const PANEL: Rect = Rect { left: 0.0, top: 0.0, right: 10.0, bottom: 10.0 };

    #[test]
    fn a_line_that_leaves_and_returns_is_two_parts() {
        let parts = polyline(&[(1.0, 5.0), (5.0, -5.0), (9.0, 5.0)], &PANEL);
        assert_eq!(parts, [[(1.0, 5.0), (3.0, 0.0)], [(7.0, 0.0), (9.0, 5.0)]]);
        assert!(polyline(&[(-5.0, 1.0), (-1.0, 9.0)], &PANEL).is_empty());
        assert_eq!(polyline(&[(1.0, 1.0), (2.0, 2.0)], &PANEL).len(), 1);
    }

    #[test]
    fn a_polygon_keeps_the_part_inside() {
        let kept = polygon(&[(-5.0, 2.0), (15.0, 2.0), (15.0, 8.0), (-5.0, 8.0)], &PANEL);
        assert!(kept.iter().all(|spot| PANEL.holds(*spot)));
        let area: f64 = (0..kept.len())
            .map(|i| kept[i].0 * kept[(i + 1) % kept.len()].1 - kept[(i + 1) % kept.len()].0 * kept[i].1)
            .sum();
        assert_eq!(area.abs() / 2.0, 60.0);
        assert!(polygon(&[(20.0, 0.0), (30.0, 0.0), (30.0, 5.0)], &PANEL).is_empty());
    }
}
