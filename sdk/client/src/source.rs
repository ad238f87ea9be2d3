//! Where the bytes of a blob come from: read once for the digest, once more to send them.

use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use strongroom_job::{Digest, Digester};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::Error;

/// Bytes that are read and sent at once: what one upload holds in memory.
pub(crate) const PIECE_BYTES: usize = 256 << 10;

/// The bytes of a module or an input.
#[derive(Clone, Debug)]
pub struct Source(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Bytes(Bytes),
    Path(PathBuf),
    File(Arc<std::fs::File>),
}

impl Source {
    /// Bytes that are in memory.
    #[must_use]
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Kind::Bytes(bytes.into()))
    }

    /// A file by its path.
    #[must_use]
    pub fn path(path: impl Into<PathBuf>) -> Self {
        Self(Kind::Path(path.into()))
    }

    /// A file that is open for reading, from its first byte on. It must allow seeking: spool a pipe to a temporary file.
    #[must_use]
    pub fn file(file: std::fs::File) -> Self {
        Self(Kind::File(Arc::new(file)))
    }

    /// Digest and length, off the async threads: a gigabyte takes seconds.
    pub(crate) async fn measure(&self) -> Result<(Digest, u64), Error> {
        let name = self.name();
        let source = self.clone();
        let measured = tokio::task::spawn_blocking(move || source.measure_blocking()).await;
        measured.map_err(std::io::Error::other).and_then(|result| result).map_err(Error::io(&name))
    }

    fn measure_blocking(&self) -> std::io::Result<(Digest, u64)> {
        let mut file = match &self.0 {
            Kind::Bytes(bytes) => return Ok((Digest::of(bytes), bytes.len() as u64)),
            Kind::Path(path) => std::fs::File::open(path)?,
            Kind::File(file) => {
                let mut file = file.try_clone()?;
                file.rewind()?;
                file
            }
        };
        let mut digester = Digester::new();
        let mut buffer = vec![0; PIECE_BYTES];
        let mut length = 0;
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok((digester.finish(), length)),
                Ok(read) => {
                    digester.update(&buffer[..read]);
                    length += read as u64;
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Begins again at the first byte.
    pub(crate) async fn open(&self) -> Result<Pieces, Error> {
        let opened = match &self.0 {
            Kind::Bytes(bytes) => return Ok(Pieces(Reading::Bytes(bytes.clone()))),
            Kind::Path(path) => tokio::fs::File::open(path).await,
            Kind::File(file) => match file.try_clone() {
                Ok(file) => {
                    let mut file = tokio::fs::File::from_std(file);
                    file.rewind().await.map(|_| file)
                }
                Err(error) => Err(error),
            },
        };
        let name = self.name();
        let mut file = opened.map_err(Error::io(&name))?;
        file.set_max_buf_size(PIECE_BYTES);
        Ok(Pieces(Reading::File { file, name }))
    }

    fn name(&self) -> PathBuf {
        match &self.0 {
            Kind::Path(path) => path.clone(),
            Kind::Bytes(_) | Kind::File(_) => PathBuf::from("(input)"),
        }
    }
}

/// The pieces of a source, one after the other.
pub(crate) struct Pieces(Reading);

enum Reading {
    Bytes(Bytes),
    File { file: tokio::fs::File, name: PathBuf },
}

impl Pieces {
    /// The next piece, at most `max` bytes; empty at the end.
    pub(crate) async fn next(&mut self, max: u64) -> Result<Bytes, Error> {
        let max = usize::try_from(max).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        match &mut self.0 {
            Reading::Bytes(bytes) => Ok(bytes.split_to(max.min(bytes.len()))),
            Reading::File { file, name } => {
                let mut piece = BytesMut::with_capacity(max);
                file.take(max as u64).read_buf(&mut piece).await.map_err(Error::io(name))?;
                Ok(piece.freeze())
            }
        }
    }
}

impl From<&str> for Source {
    /// A path.
    fn from(path: &str) -> Self {
        Self::path(path)
    }
}

impl From<String> for Source {
    /// A path.
    fn from(path: String) -> Self {
        Self::path(path)
    }
}

impl From<&Path> for Source {
    fn from(path: &Path) -> Self {
        Self::path(path)
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::path(path)
    }
}

impl From<&PathBuf> for Source {
    fn from(path: &PathBuf) -> Self {
        Self::path(path)
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Self::bytes(bytes)
    }
}

impl From<Bytes> for Source {
    fn from(bytes: Bytes) -> Self {
        Self::bytes(bytes)
    }
}

impl From<std::fs::File> for Source {
    fn from(file: std::fs::File) -> Self {
        Self::file(file)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use std::io::Write;

    use super::*;

    async fn read(source: &Source) -> Vec<u8> {
        let mut pieces = source.open().await.unwrap();
        let mut all = Vec::new();
        loop {
            let piece = pieces.next(u64::MAX).await.unwrap();
            assert!(piece.len() <= PIECE_BYTES);
            if piece.is_empty() {
                return all;
            }
            all.extend_from_slice(&piece);
        }
    }

    #[tokio::test]
    async fn every_kind_is_read_whole_and_again() {
        let content: Vec<u8> = (0..PIECE_BYTES * 2 + 5).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&content).unwrap();
        let sources = [content.clone().into(), file.path().into(), Source::file(file.reopen().unwrap())];
        for source in &sources {
            let expected = (Digest::of(&content), content.len() as u64);
            assert_eq!(source.measure().await.unwrap(), expected);
            assert_eq!(read(source).await, content);
            assert_eq!(read(source).await, content);
        }
    }

    #[tokio::test]
    async fn a_missing_file_is_named() {
        let error = Source::path("/no/such/file").measure().await.unwrap_err().to_string();
        assert!(error.starts_with("/no/such/file: No such file"), "{error}");
    }
}
