//! Makes a small PNG of a picture: `thumbnail [--max PIXELS] < picture > small.png`.
//!
//! Takes PNG and JPEG, turns a photograph upright as its EXIF data says, and scales it until its longer side is at most
//! `--max` pixels (128 when not given). A picture that is already small enough keeps its size.

use std::io::{self, Cursor, Write};
use std::process::ExitCode;

use image::imageops::FilterType;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use strongroom_guest::{Args, Failure, read_all, run};

/// Longer side of a thumbnail when `--max` is not given, in pixels.
const DEFAULT_MAX: u32 = 128;
/// Largest value of `--max`, in pixels.
const LARGEST_MAX: u32 = 4096;
/// Largest picture file, in bytes.
const MAX_INPUT_BYTES: usize = 32 * 1024 * 1024;
/// Largest side of a picture, in pixels.
const MAX_SIDE: u32 = 16_384;
/// Most memory that decoding may take, in bytes: a small file can hold a huge picture.
const MAX_DECODE_BYTES: u64 = 256 * 1024 * 1024;

fn main() -> ExitCode {
    run("thumbnail", thumbnail)
}

fn thumbnail(mut args: Args, out: &mut dyn Write) -> Result<(), Failure> {
    let max = args.parsed("--max")?.unwrap_or(DEFAULT_MAX);
    args.none_left()?;
    if !(1..=LARGEST_MAX).contains(&max) {
        return Err(Failure::usage(format!("--max {max}: must be between 1 and {LARGEST_MAX}")));
    }
    let picture = decode(&read_all(io::stdin().lock(), MAX_INPUT_BYTES)?)?;
    let png = encode(&shrink(picture, max))?;
    out.write_all(&png)?;
    Ok(())
}

/// Decodes a PNG or JPEG and turns it upright.
fn decode(file: &[u8]) -> Result<DynamicImage, Failure> {
    let bad = |error: image::ImageError| Failure::input(format!("the picture: {error}"));
    let mut reader = ImageReader::new(Cursor::new(file)).with_guessed_format()?;
    if reader.format().is_none() {
        return Err(Failure::input("the input is neither PNG nor JPEG"));
    }
    let mut limits = Limits::no_limits();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(bad)?;
    let orientation = decoder.orientation().map_err(bad)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(bad)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

fn shrink(picture: DynamicImage, max: u32) -> DynamicImage {
    if picture.width() <= max && picture.height() <= max {
        return picture;
    }
    picture.resize(max, max, FilterType::Triangle)
}

fn encode(picture: &DynamicImage) -> Result<Vec<u8>, Failure> {
    let mut png = Cursor::new(Vec::new());
    picture
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|error| Failure::failed(format!("the thumbnail: {error}")))?;
    Ok(png.into_inner())
}
