//! WASI 0.2: `wasi:filesystem`, with the calls that write, create or name a path charged and told; the rest is
//! wasmtime-wasi's.

use std::io;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::FsPerms;
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, ErrorCode, HostDescriptor, HostDirectoryEntryStream,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use crate::sandbox::Guest;

use super::look::look;
use super::nodes::{Node, Place};
use super::quota::{At, off_thread};
use super::stream::FileStream;
use super::tell::Answer;
use super::{Files, code};

type Fd = Resource<Descriptor>;

/// Puts our `wasi:filesystem` in the place of the one that `linker` has.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    fn view(guest: &mut Guest) -> View<'_> {
        let (wasi, files) = guest.files();
        View { wasi: wasi.filesystem(), files }
    }
    linker.allow_shadowing(true);
    types::add_to_linker::<Guest, Filesystem>(linker, view)?;
    preopens::add_to_linker::<Guest, Filesystem>(linker, view)?;
    linker.allow_shadowing(false);
    Ok(())
}

struct Filesystem;

impl HasData for Filesystem {
    type Data<'a> = View<'a>;
}

struct View<'a> {
    wasi: WasiFilesystemCtxView<'a>,
    files: &'a mut Files,
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let dirs = preopens::Host::get_directories(&mut self.wasi)?;
        for (fd, guest) in &dirs {
            if let Some(node) = Node::new(self.wasi.table.get(fd)?, Place::root(guest)) {
                self.files.nodes.insert(fd.rep(), node);
            }
        }
        Ok(dirs)
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.wasi.convert_error_code(error)
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        Ok(self.wasi.table.get(&error)?.downcast_ref::<io::Error>().map(code))
    }
}

impl HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<types::DirectoryEntryStream>,
    ) -> FsResult<Option<types::DirectoryEntry>> {
        self.wasi.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<types::DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.wasi, stream)
    }
}

macro_rules! pass_on {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => { $(
        async fn $name(&mut self, $($arg: $type),*) -> $answer {
            self.wasi.$name($($arg),*).await
        }
    )* };
}

impl HostDescriptor for View<'_> {
    pass_on! {
        fn advise(fd: Fd, offset: u64, length: u64, advice: types::Advice) -> FsResult<()>;
        fn sync_data(fd: Fd) -> FsResult<()>;
        fn get_flags(fd: Fd) -> FsResult<types::DescriptorFlags>;
        fn get_type(fd: Fd) -> FsResult<types::DescriptorType>;
        fn read(fd: Fd, length: u64, offset: u64) -> FsResult<(Vec<u8>, bool)>;
        fn sync(fd: Fd) -> FsResult<()>;
        fn stat(fd: Fd) -> FsResult<types::DescriptorStat>;
        fn is_same_object(a: Fd, b: Fd) -> wasmtime::Result<bool>;
        fn metadata_hash(fd: Fd) -> FsResult<types::MetadataHashValue>;
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        self.files.nodes.remove(fd.rep());
        HostDescriptor::drop(&mut self.wasi, fd)
    }

    fn read_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynInputStream>> {
        self.wasi.read_via_stream(fd, offset)
    }

    fn write_via_stream(&mut self, fd: Fd, offset: u64) -> FsResult<Resource<DynOutputStream>> {
        self.stream(&fd, At::Offset(offset))
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        self.stream(&fd, At::End)
    }

    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: u64) -> FsResult<u64> {
        let file = self.written(&fd)?;
        let disk = self.files.disk.clone();
        let wrote = off_thread(move || disk.write(&file, &bytes, At::Offset(offset))).await;
        Ok(wrote.map_err(|error| code(&error))?.bytes as u64)
    }

    async fn set_size(&mut self, fd: Fd, size: u64) -> FsResult<()> {
        let answer = match self.written(&fd) {
            Ok(file) => {
                let disk = self.files.disk.clone();
                off_thread(move || disk.set_length(&file, size)).await.map_err(|error| code(&error).into())
            }
            Err(error) => Err(error),
        };
        self.tell(&fd, "", true, &answer);
        answer
    }

    async fn set_times(
        &mut self,
        fd: Fd,
        atim: types::NewTimestamp,
        mtim: types::NewTimestamp,
    ) -> FsResult<()> {
        let answer = self.wasi.set_times(again(&fd), atim, mtim).await;
        self.tell(&fd, "", true, &answer);
        answer
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<types::DirectoryEntryStream>> {
        let answer = self.wasi.read_directory(again(&fd)).await;
        self.tell(&fd, "", false, &answer);
        answer
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let dir = self.dir(&fd)?;
        let creation = self.files.before_making(&dir, &path).await.map_err(|error| code(&error))?;
        let answer = self.wasi.create_directory_at(fd, path.clone()).await;
        self.files.after_making(creation, answer.is_ok());
        self.files.tell(&dir.place, &path, true, of(&answer));
        answer
    }

    async fn symlink_at(&mut self, fd: Fd, target: String, path: String) -> FsResult<()> {
        let dir = self.dir(&fd)?;
        let creation = self.files.before_making(&dir, &path).await.map_err(|error| code(&error))?;
        let answer = self.wasi.symlink_at(fd, target, path.clone()).await;
        self.files.after_making(creation, answer.is_ok());
        self.files.tell(&dir.place, &path, true, of(&answer));
        answer
    }

    async fn link_at(
        &mut self,
        from: Fd,
        flags: types::PathFlags,
        old: String,
        to: Fd,
        new: String,
    ) -> FsResult<()> {
        let (source, dir) = (self.dir(&from)?, self.dir(&to)?);
        let creation = self.files.before_making(&dir, &new).await.map_err(|error| code(&error))?;
        let answer = self.wasi.link_at(from, flags, old.clone(), to, new.clone()).await;
        self.files.after_making(creation, answer.is_ok());
        self.files.tell_both((&source.place, &old), (&dir.place, &new), of(&answer));
        answer
    }

    async fn rename_at(&mut self, from: Fd, old: String, to: Fd, new: String) -> FsResult<()> {
        let (source, dir) = (self.dir(&from)?, self.dir(&to)?);
        let answer = self.wasi.rename_at(from, old.clone(), to, new.clone()).await;
        self.files.tell_both((&source.place, &old), (&dir.place, &new), of(&answer));
        answer
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: types::PathFlags,
        path: String,
        open_flags: types::OpenFlags,
        flags: types::DescriptorFlags,
    ) -> FsResult<Fd> {
        let dir = self.dir(&fd)?;
        let create = open_flags.contains(types::OpenFlags::CREATE);
        let write = create
            || open_flags.contains(types::OpenFlags::TRUNCATE)
            || flags.contains(types::DescriptorFlags::WRITE);
        let found = match look(&dir.handle, &path, follows(path_flags)).await {
            Ok(found) => found,
            Err(error) => {
                let answer: FsResult<Fd> = Err(code(&error).into());
                self.files.tell(&dir.place, &path, write, of(&answer));
                return answer;
            }
        };
        let creation = self.files.before_opening(&dir, found, create).map_err(|error| code(&error))?;
        let answer = self.wasi.open_at(fd, path_flags, path.clone(), open_flags, flags).await;
        self.files.after_making(creation, answer.is_ok());
        let answer = match answer {
            Ok(opened) => match Node::new(self.wasi.table.get(&opened)?, dir.place.below(&path)) {
                Some(node) => Ok((opened, node)),
                None => {
                    HostDescriptor::drop(&mut self.wasi, opened).map_err(FsError::trap)?;
                    Err(ErrorCode::NotPermitted.into())
                }
            },
            Err(error) => Err(error),
        };
        self.files.tell(&dir.place, &path, write, of(&answer));
        let (opened, node) = answer?;
        self.files.nodes.insert(opened.rep(), node);
        Ok(opened)
    }

    async fn stat_at(
        &mut self,
        fd: Fd,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::DescriptorStat> {
        let answer = self.wasi.stat_at(again(&fd), flags, path.clone()).await;
        self.tell(&fd, &path, false, &answer);
        answer
    }

    async fn set_times_at(
        &mut self,
        fd: Fd,
        flags: types::PathFlags,
        path: String,
        atim: types::NewTimestamp,
        mtim: types::NewTimestamp,
    ) -> FsResult<()> {
        let dir = self.dir(&fd)?;
        // Setting the times of what a path leads to opens it.
        let opens = follows(flags) && !dir.read_only;
        let looked = if opens { look(&dir.handle, &path, true).await.map(|_| ()) } else { Ok(()) };
        let answer = match looked {
            Ok(()) => self.wasi.set_times_at(fd, flags, path.clone(), atim, mtim).await,
            Err(error) => Err(code(&error).into()),
        };
        self.files.tell(&dir.place, &path, true, of(&answer));
        answer
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        let answer = self.wasi.readlink_at(again(&fd), path.clone()).await;
        self.tell(&fd, &path, false, &answer);
        answer
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let answer = self.wasi.remove_directory_at(again(&fd), path.clone()).await;
        self.tell(&fd, &path, true, &answer);
        answer
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let answer = self.wasi.unlink_file_at(again(&fd), path.clone()).await;
        self.tell(&fd, &path, true, &answer);
        answer
    }

    async fn metadata_hash_at(
        &mut self,
        fd: Fd,
        flags: types::PathFlags,
        path: String,
    ) -> FsResult<types::MetadataHashValue> {
        let answer = self.wasi.metadata_hash_at(again(&fd), flags, path.clone()).await;
        self.tell(&fd, &path, false, &answer);
        answer
    }
}

impl View<'_> {
    fn dir(&self, fd: &Fd) -> FsResult<Node> {
        self.files.nodes.dir(fd.rep()).ok_or_else(|| ErrorCode::NotDirectory.into())
    }

    /// The file behind `fd`, if the grant lets it be changed.
    fn written(&self, fd: &Fd) -> FsResult<std::sync::Arc<std::fs::File>> {
        match self.wasi.table.get(fd)? {
            Descriptor::Dir(_) => Err(ErrorCode::BadDescriptor.into()),
            Descriptor::File(file) if file.perms == FsPerms::ReadOnly => Err(ErrorCode::NotPermitted.into()),
            Descriptor::File(file) => Ok(std::sync::Arc::clone(&file.file)),
        }
    }

    fn stream(&mut self, fd: &Fd, at: At) -> FsResult<Resource<DynOutputStream>> {
        let stream = FileStream::new(self.files.disk.clone(), self.written(fd)?, at);
        Ok(self.wasi.table.push(Box::new(stream) as DynOutputStream)?)
    }

    fn tell<T>(&self, fd: &Fd, path: &str, write: bool, answer: &FsResult<T>) {
        if let Some(node) = self.files.nodes.get(fd.rep()) {
            self.files.tell(&node.place, path, write, of(answer));
        }
    }
}

/// The same handle for another call.
fn again(fd: &Fd) -> Fd {
    Resource::new_borrow(fd.rep())
}

fn of<T>(answer: &FsResult<T>) -> Answer {
    match answer.as_ref().map_err(FsError::downcast_ref) {
        Ok(_) => Answer::Done,
        Err(Some(ErrorCode::NotPermitted)) => Answer::Refused,
        Err(Some(ErrorCode::NoEntry)) => Answer::Missing,
        Err(_) => Answer::Failed,
    }
}

fn follows(flags: types::PathFlags) -> bool {
    flags.contains(types::PathFlags::SYMLINK_FOLLOW)
}
