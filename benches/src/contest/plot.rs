//! Plots of a contest and of curves, as SVG that GitHub and a browser show without a script.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, Ranged, ValueFormatter};
use plotters::prelude::{
    ChartBuilder, Circle, IntoDrawingArea as _, IntoLogRange as _, LineSeries, RGBColor, Rectangle,
    SVGBackend, SeriesLabelPosition, Text, TextStyle, WHITE,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{BLACK, Color as _, IntoFont as _, ShapeStyle};

use super::table::thousands;
use super::{Entry, spread};

const OURS: RGBColor = RGBColor(0x1f, 0x6f, 0x5c);
const THEIRS: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
/// Colours of curves.
const CURVES: [RGBColor; 3] = [OURS, RGBColor(0xc8, 0x6b, 0x1f), RGBColor(0x4a, 0x5f, 0xa8)];
/// Height of a bar with its space, in pixels.
const BAR: u32 = 34;

/// A bar for each entry, jobs a second, on a logarithmic scale; ours in another colour.
///
/// # Errors
/// When the file cannot be written.
pub fn bars(path: &Path, title: &str, entries: &[Entry]) -> Result<()> {
    draw_bars(path, title, entries).map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw_bars(path: &Path, title: &str, entries: &[Entry]) -> Result<(), Box<dyn std::error::Error>> {
    let (width, names) = (860_u32, 330_i32);
    let area = SVGBackend::new(path, (width, 70 + BAR * u32::try_from(entries.len())?)).into_drawing_area();
    area.fill(&WHITE)?;
    area.draw(&Text::new(title.to_owned(), (16, 16), ("sans-serif", 18).into_font()))?;
    let most = entries.iter().map(|entry| spread(&entry.rates).2).fold(10.0, f64::max);
    let least = entries.iter().map(|entry| spread(&entry.rates).1).fold(most, f64::min).max(1.0);
    // A bar begins a factor of three below the slowest, so that it has a length, too.
    let (low, high) = ((least / 3.0).ln(), most.ln());
    let room = f64::from(width) - f64::from(names) - 100.0;
    let across = |rate: f64| names + ((rate.max(1.0).ln() - low) / (high - low) * room) as i32;
    for (at, entry) in entries.iter().enumerate() {
        let (rate, lowest, highest) = spread(&entry.rates);
        let top = 56 + i32::try_from(BAR)? * i32::try_from(at)?;
        let middle = top + 11;
        let colour = if entry.name.starts_with("Strongroom") { OURS } else { THEIRS };
        let right = TextStyle::from(("sans-serif", 13).into_font()).pos(Pos::new(HPos::Right, VPos::Center));
        let left = TextStyle::from(("sans-serif", 13).into_font()).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(entry.name.clone(), (names - 10, middle), right))?;
        area.draw(&Rectangle::new([(names, top), (across(rate), top + 22)], colour.filled()))?;
        // From the slowest to the fastest round.
        let whisker = ShapeStyle::from(&BLACK).stroke_width(1);
        area.draw(&plotters::element::PathElement::new(
            [(across(lowest), middle), (across(highest), middle)],
            whisker,
        ))?;
        area.draw(&Text::new(thousands(rate), (across(highest) + 8, middle), left))?;
    }
    area.present()?;
    Ok(())
}

/// A line of a plot: what it shows, and its points.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// From left to right.
    pub points: Vec<(f64, f64)>,
}

/// Curves over one scale, both axes logarithmic.
///
/// # Errors
/// When the file cannot be written.
pub fn curves(path: &Path, title: &str, x: &str, y: &str, curves: &[Curve]) -> Result<()> {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let range = |pick: fn(&(f64, f64)) -> f64| {
        let least = points().map(pick).fold(f64::INFINITY, f64::min).max(1e-3);
        let most = points().map(pick).fold(least, f64::max);
        least * 0.8..most * 1.25
    };
    let (across, up) = (range(|point| point.0), range(|point| point.1));
    draw_curves(path, title, (x, y), (across, up), curves)
        .map_err(|error| anyhow!("{}: {error}", path.display()))
}

fn draw_curves(
    path: &Path,
    title: &str,
    names: (&str, &str),
    ranges: (Range<f64>, Range<f64>),
    curves: &[Curve],
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, (720, 400)).into_drawing_area();
    area.fill(&WHITE)?;
    let (across, up) = (ranges.0.log_scale(), ranges.1.log_scale());
    let mut chart = ChartBuilder::on(&area)
        .caption(title, ("sans-serif", 18))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(78)
        .build_cartesian_2d(across, up)?;
    mesh(&mut chart, names)?;
    for (curve, colour) in curves.iter().zip(CURVES.iter().cycle()) {
        let colour = *colour;
        chart
            .draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(2)))?
            .label(&curve.name)
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
        chart.draw_series(curve.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}

fn mesh<X, Y>(
    chart: &mut plotters::prelude::ChartContext<'_, SVGBackend<'_>, plotters::prelude::Cartesian2d<X, Y>>,
    names: (&str, &str),
) -> Result<(), Box<dyn std::error::Error>>
where
    X: Ranged<ValueType = f64> + ValueFormatter<f64> + AsRangedCoord<Value = f64>,
    Y: Ranged<ValueType = f64> + ValueFormatter<f64> + AsRangedCoord<Value = f64>,
{
    let label = |value: &f64| if *value < 10.0 { format!("{value}") } else { thousands(*value) };
    chart
        .configure_mesh()
        .x_desc(names.0)
        .y_desc(names.1)
        .light_line_style(WHITE)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .draw()?;
    Ok(())
}
