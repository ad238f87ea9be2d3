//! Preview 1: the calls that write, create or name a path are charged and told; the rest is wasmtime-wasi's.
//!
//! wasmtime-wasi keeps to itself which file is behind a descriptor. So what `path_open` opened is looked up once, and each write
//! then goes to that file directly, as wasmtime-wasi's own would: one buffer for each call, on a helper thread.

use wasmtime_wasi::I32Exit;
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::p1::types;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self, WasiSnapshotPreview1};
use wiggle::{GuestMemory, GuestPtr};

use crate::direct;
use crate::sandbox::Guest;

use super::arguments::{first_buffer, text};
use super::code;
use super::look::look;
use super::nodes::{Node, next_slot, opened};
use super::quota::{At, off_thread};
use super::tell::Answer;

type Result<T, E = types::Error> = std::result::Result<T, E>;

/// Adds preview 1 to `linker`.
pub(crate) fn link(linker: &mut wasmtime::Linker<Guest>) -> wasmtime::Result<()> {
    wasi_snapshot_preview1::add_to_linker(linker, |guest| guest)?;
    // The generated one refuses a module that exports no memory. To end needs none.
    linker.allow_shadowing(true);
    direct::link(linker)?;
    linker.func_wrap("wasi_snapshot_preview1", "proc_exit", |status: i32| Err::<(), _>(exit(status)))?;
    linker.allow_shadowing(false);
    Ok(())
}

/// wasmtime-wasi turns a status above 125 into a trap; ours reports the status that the guest gave.
fn exit(status: i32) -> wasmtime::Error {
    I32Exit(status).into()
}

macro_rules! pass_on {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => { $(
        fn $name(&mut self, memory: &mut GuestMemory<'_>, $($arg: $type),*) -> $answer {
            self.wasi().$name(memory, $($arg),*)
        }
    )* };
}

macro_rules! pass_on_async {
    ($(fn $name:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => { $(
        async fn $name(&mut self, memory: &mut GuestMemory<'_>, $($arg: $type),*) -> $answer {
            self.wasi().$name(memory, $($arg),*).await
        }
    )* };
}

impl WasiSnapshotPreview1 for Guest {
    fn set_hostcall_fuel(&mut self, fuel: usize) {
        let (wasi, files) = self.files();
        files.call_budget = fuel;
        wasi.set_hostcall_fuel(fuel);
    }

    pass_on! {
        fn args_get(argv: GuestPtr<GuestPtr<u8>>, buffer: GuestPtr<u8>) -> Result<()>;
        fn args_sizes_get() -> Result<(types::Size, types::Size)>;
        fn environ_get(environ: GuestPtr<GuestPtr<u8>>, buffer: GuestPtr<u8>) -> Result<()>;
        fn environ_sizes_get() -> Result<(types::Size, types::Size)>;
        fn clock_res_get(id: types::Clockid) -> Result<types::Timestamp>;
        fn clock_time_get(id: types::Clockid, precision: types::Timestamp) -> Result<types::Timestamp>;
        // It is always refused, so there is nothing to charge.
        fn fd_allocate(fd: types::Fd, offset: types::Filesize, length: types::Filesize) -> Result<()>;
        fn fd_fdstat_set_rights(fd: types::Fd, base: types::Rights, inheriting: types::Rights) -> Result<()>;
        fn fd_prestat_dir_name(fd: types::Fd, path: GuestPtr<u8>, most: types::Size) -> Result<()>;
        fn fd_tell(fd: types::Fd) -> Result<types::Filesize>;
        fn proc_raise(signal: types::Signal) -> Result<()>;
        fn sched_yield() -> Result<()>;
        fn random_get(buffer: GuestPtr<u8>, length: types::Size) -> Result<()>;
        fn sock_accept(fd: types::Fd, flags: types::Fdflags) -> Result<types::Fd>;
        fn sock_recv(fd: types::Fd, to: types::IovecArray, flags: types::Riflags) -> Result<(types::Size, types::Roflags)>;
        fn sock_send(fd: types::Fd, from: types::CiovecArray, flags: types::Siflags) -> Result<types::Size>;
        fn sock_shutdown(fd: types::Fd, how: types::Sdflags) -> Result<()>;
    }

    pass_on_async! {
        fn fd_advise(fd: types::Fd, offset: types::Filesize, length: types::Filesize, advice: types::Advice) -> Result<()>;
        fn fd_datasync(fd: types::Fd) -> Result<()>;
        fn fd_fdstat_get(fd: types::Fd) -> Result<types::Fdstat>;
        fn fd_filestat_get(fd: types::Fd) -> Result<types::Filestat>;
        fn fd_read(fd: types::Fd, to: types::IovecArray) -> Result<types::Size>;
        fn fd_pread(fd: types::Fd, to: types::IovecArray, offset: types::Filesize) -> Result<types::Size>;
        fn fd_seek(fd: types::Fd, offset: types::Filedelta, whence: types::Whence) -> Result<types::Filesize>;
        fn fd_sync(fd: types::Fd) -> Result<()>;
        fn poll_oneoff(what: GuestPtr<types::Subscription>, events: GuestPtr<types::Event>, count: types::Size) -> Result<types::Size>;
    }

    /// Every program asks at its start. Where there is nothing, wasmtime-wasi need not be asked.
    fn fd_prestat_get(&mut self, memory: &mut GuestMemory<'_>, fd: types::Fd) -> Result<types::Prestat> {
        let (wasi, files) = self.files();
        files.nodes.dir(fd.into()).ok_or(types::Errno::Badf)?;
        wasi.fd_prestat_get(memory, fd)
    }

    fn proc_exit(&mut self, _: &mut GuestMemory<'_>, status: types::Exitcode) -> wasmtime::Error {
        exit(status.cast_signed())
    }

    async fn fd_close(&mut self, memory: &mut GuestMemory<'_>, fd: types::Fd) -> Result<()> {
        self.direct().touch(fd.into());
        let (wasi, files) = self.files();
        files.nodes.remove(fd.into());
        wasi.fd_close(memory, fd).await
    }

    async fn fd_renumber(
        &mut self,
        memory: &mut GuestMemory<'_>,
        from: types::Fd,
        to: types::Fd,
    ) -> Result<()> {
        self.direct().touch(from.into());
        self.direct().touch(to.into());
        let (wasi, files) = self.files();
        wasi.fd_renumber(memory, from, to).await?;
        if from != to {
            files.nodes.remove(to.into());
            if let Some(node) = files.nodes.remove(from.into()) {
                files.nodes.insert(to.into(), node);
            }
        }
        Ok(())
    }

    fn fd_fdstat_set_flags(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        flags: types::Fdflags,
    ) -> Result<()> {
        let (wasi, files) = self.files();
        wasi.fd_fdstat_set_flags(memory, fd, flags)?;
        if let Some(node) = files.nodes.get_mut(fd.into()) {
            node.append = flags.contains(types::Fdflags::APPEND);
        }
        Ok(())
    }

    async fn fd_write(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        from: types::CiovecArray,
    ) -> Result<types::Size> {
        let Some(file) = self.written(fd) else {
            return self.wasi().fd_write(memory, fd, from).await;
        };
        let at = if file.append { At::End } else { At::Offset(self.wasi().fd_tell(memory, fd)?) };
        let (bytes, end) = self.write(memory, &file, from, at).await?;
        let end = end.try_into().map_err(|_| types::Errno::Overflow)?;
        self.wasi().fd_seek(memory, fd, end, types::Whence::Set).await?;
        Ok(bytes)
    }

    async fn fd_pwrite(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        from: types::CiovecArray,
        offset: types::Filesize,
    ) -> Result<types::Size> {
        let Some(file) = self.written(fd) else {
            return self.wasi().fd_pwrite(memory, fd, from, offset).await;
        };
        // As on Linux, a file that is written at its end is written there.
        let at = if file.append { At::End } else { At::Offset(offset) };
        Ok(self.write(memory, &file, from, at).await?.0)
    }

    async fn fd_filestat_set_size(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        size: types::Filesize,
    ) -> Result<()> {
        let (wasi, files) = self.files();
        let Some(node) = files.nodes.get(fd.into()).cloned() else {
            return wasi.fd_filestat_set_size(memory, fd, size).await;
        };
        let answer = if node.is_dir || node.read_only || !node.writable {
            wasi.fd_filestat_set_size(memory, fd, size).await
        } else {
            let disk = files.disk.clone();
            let file = node.handle;
            off_thread(move || disk.set_length(&file, size)).await.map_err(|error| code(&error).into())
        };
        files.tell(&node.place, "", true, of(&answer));
        answer
    }

    async fn fd_filestat_set_times(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        atim: types::Timestamp,
        mtim: types::Timestamp,
        flags: types::Fstflags,
    ) -> Result<()> {
        let answer = self.wasi().fd_filestat_set_times(memory, fd, atim, mtim, flags).await;
        self.tell_of(fd, true, &answer);
        answer
    }

    async fn fd_readdir(
        &mut self,
        memory: &mut GuestMemory<'_>,
        fd: types::Fd,
        buffer: GuestPtr<u8>,
        length: types::Size,
        cookie: types::Dircookie,
    ) -> Result<types::Size> {
        let answer = self.wasi().fd_readdir(memory, fd, buffer, length, cookie).await;
        self.tell_of(fd, false, &answer);
        answer
    }

    async fn path_open(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        oflags: types::Oflags,
        base: types::Rights,
        inheriting: types::Rights,
        fdflags: types::Fdflags,
    ) -> Result<types::Fd> {
        let (wasi, files) = self.files();
        let Some(dir) = files.nodes.dir(dirfd.into()) else {
            return wasi.path_open(memory, dirfd, lookup, path, oflags, base, inheriting, fdflags).await;
        };
        let name = text(memory, path)?;
        let create = oflags.contains(types::Oflags::CREAT);
        let write = create || oflags.contains(types::Oflags::TRUNC) || base.contains(types::Rights::FD_WRITE);
        let found = match look(&dir.handle, &name, follows(lookup)).await {
            Ok(found) => found,
            Err(error) => {
                let answer: Result<types::Fd> = Err(code(&error).into());
                files.tell(&dir.place, &name, write, of(&answer));
                return answer;
            }
        };
        let creation = files.before_opening(&dir, found, create).map_err(|error| code(&error))?;
        // Any call makes wasmtime-wasi list stdin and the like in the table, if it has not yet; then the next slot is known.
        let _ = wasi.fd_tell(memory, dirfd);
        let slot = next_slot(wasi.ctx().table);
        let answer = wasi.path_open(memory, dirfd, lookup, path, oflags, base, inheriting, fdflags).await;
        files.after_making(creation, answer.is_ok());
        let answer = match answer {
            Ok(fd) => {
                match opened(wasi.ctx().table, slot).and_then(|it| Node::new(it, dir.place.below(&name))) {
                    Some(node) => Ok((fd, node)),
                    None => {
                        wasi.fd_close(memory, fd).await?;
                        Err(types::Errno::Perm.into())
                    }
                }
            }
            Err(error) => Err(error),
        };
        files.tell(&dir.place, &name, write, of(&answer));
        let (fd, mut node) = answer?;
        node.append = fdflags.contains(types::Fdflags::APPEND);
        files.nodes.insert(fd.into(), node);
        Ok(fd)
    }

    async fn path_create_directory(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let (wasi, files) = self.files();
        let Some(dir) = files.nodes.dir(dirfd.into()) else {
            return wasi.path_create_directory(memory, dirfd, path).await;
        };
        let name = text(memory, path)?;
        let creation = files.before_making(&dir, &name).await.map_err(|error| code(&error))?;
        let answer = wasi.path_create_directory(memory, dirfd, path).await;
        files.after_making(creation, answer.is_ok());
        files.tell(&dir.place, &name, true, of(&answer));
        answer
    }

    async fn path_symlink(
        &mut self,
        memory: &mut GuestMemory<'_>,
        target: GuestPtr<str>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let (wasi, files) = self.files();
        let Some(dir) = files.nodes.dir(dirfd.into()) else {
            return wasi.path_symlink(memory, target, dirfd, path).await;
        };
        let name = text(memory, path)?;
        let creation = files.before_making(&dir, &name).await.map_err(|error| code(&error))?;
        let answer = wasi.path_symlink(memory, target, dirfd, path).await;
        files.after_making(creation, answer.is_ok());
        files.tell(&dir.place, &name, true, of(&answer));
        answer
    }

    async fn path_link(
        &mut self,
        memory: &mut GuestMemory<'_>,
        from: types::Fd,
        lookup: types::Lookupflags,
        old: GuestPtr<str>,
        to: types::Fd,
        new: GuestPtr<str>,
    ) -> Result<()> {
        let (wasi, files) = self.files();
        let (Some(source), Some(dir)) = (files.nodes.dir(from.into()), files.nodes.dir(to.into())) else {
            return wasi.path_link(memory, from, lookup, old, to, new).await;
        };
        let (old_name, new_name) = (text(memory, old)?, text(memory, new)?);
        let creation = files.before_making(&dir, &new_name).await.map_err(|error| code(&error))?;
        let answer = wasi.path_link(memory, from, lookup, old, to, new).await;
        files.after_making(creation, answer.is_ok());
        files.tell_both((&source.place, &old_name), (&dir.place, &new_name), of(&answer));
        answer
    }

    async fn path_rename(
        &mut self,
        memory: &mut GuestMemory<'_>,
        from: types::Fd,
        old: GuestPtr<str>,
        to: types::Fd,
        new: GuestPtr<str>,
    ) -> Result<()> {
        let (wasi, files) = self.files();
        let answer = wasi.path_rename(memory, from, old, to, new).await;
        if let (Some(source), Some(dir)) = (files.nodes.dir(from.into()), files.nodes.dir(to.into()))
            && files.worth_telling(of(&answer))
        {
            let (old, new) = (text(memory, old)?, text(memory, new)?);
            files.tell_both((&source.place, &old), (&dir.place, &new), of(&answer));
        }
        answer
    }

    async fn path_filestat_get(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
    ) -> Result<types::Filestat> {
        let answer = self.wasi().path_filestat_get(memory, dirfd, lookup, path).await;
        self.tell_of_path(memory, dirfd, path, false, &answer);
        answer
    }

    async fn path_filestat_set_times(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        lookup: types::Lookupflags,
        path: GuestPtr<str>,
        atim: types::Timestamp,
        mtim: types::Timestamp,
        flags: types::Fstflags,
    ) -> Result<()> {
        let (wasi, files) = self.files();
        let answer = match files.nodes.dir(dirfd.into()).filter(|dir| follows(lookup) && !dir.read_only) {
            // Setting the times of what a path leads to opens it.
            Some(dir) => look(&dir.handle, &text(memory, path)?, true).await.map(|_| ()),
            None => Ok(()),
        };
        let answer = match answer {
            Ok(()) => wasi.path_filestat_set_times(memory, dirfd, lookup, path, atim, mtim, flags).await,
            Err(error) => Err(code(&error).into()),
        };
        self.tell_of_path(memory, dirfd, path, true, &answer);
        answer
    }

    async fn path_readlink(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
        buffer: GuestPtr<u8>,
        length: types::Size,
    ) -> Result<types::Size> {
        let answer = self.wasi().path_readlink(memory, dirfd, path, buffer, length).await;
        self.tell_of_path(memory, dirfd, path, false, &answer);
        answer
    }

    async fn path_remove_directory(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let answer = self.wasi().path_remove_directory(memory, dirfd, path).await;
        self.tell_of_path(memory, dirfd, path, true, &answer);
        answer
    }

    async fn path_unlink_file(
        &mut self,
        memory: &mut GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
    ) -> Result<()> {
        let answer = self.wasi().path_unlink_file(memory, dirfd, path).await;
        self.tell_of_path(memory, dirfd, path, true, &answer);
        answer
    }
}

impl Guest {
    /// The file behind `fd`, if a write to it must be charged. Stdout and stderr are not among them, and the answer for them
    /// costs a look into a small map. A file that was opened for reading is wasmtime-wasi's to refuse.
    fn written(&mut self, fd: types::Fd) -> Option<Node> {
        self.files().1.nodes.get(fd.into()).filter(|node| !node.is_dir && node.writable).cloned()
    }

    /// Writes the first buffer that is not empty; answers with how much, and with the position after it.
    async fn write(
        &mut self,
        memory: &GuestMemory<'_>,
        file: &Node,
        from: types::CiovecArray,
        at: At,
    ) -> Result<(types::Size, u64)> {
        let files = self.files().1;
        let bytes = first_buffer(memory, from, files.call_budget)?;
        let (disk, handle) = (files.disk.clone(), std::sync::Arc::clone(&file.handle));
        let wrote =
            off_thread(move || disk.write(&handle, &bytes, at)).await.map_err(|error| code(&error))?;
        Ok((wrote.bytes.try_into()?, wrote.end))
    }

    fn tell_of<T>(&mut self, fd: types::Fd, write: bool, answer: &Result<T>) {
        let files = self.files().1;
        if let Some(node) = files.nodes.get(fd.into()) {
            files.tell(&node.place, "", write, of(answer));
        }
    }

    fn tell_of_path<T>(
        &mut self,
        memory: &GuestMemory<'_>,
        dirfd: types::Fd,
        path: GuestPtr<str>,
        write: bool,
        answer: &Result<T>,
    ) {
        let files = self.files().1;
        if files.worth_telling(of(answer))
            && let Some(dir) = files.nodes.get(dirfd.into())
            && let Ok(name) = text(memory, path)
        {
            files.tell(&dir.place, &name, write, of(answer));
        }
    }
}

fn of<T>(answer: &Result<T>) -> Answer {
    match answer.as_ref().map_err(types::Error::downcast_ref) {
        Ok(_) => Answer::Done,
        Err(Some(types::Errno::Perm)) => Answer::Refused,
        Err(Some(types::Errno::Noent)) => Answer::Missing,
        Err(_) => Answer::Failed,
    }
}

fn follows(lookup: types::Lookupflags) -> bool {
    lookup.contains(types::Lookupflags::SYMLINK_FOLLOW)
}
