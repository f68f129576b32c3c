//! The files of a host: its keys and its link, readable by their owner only, and the database.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use data_encoding::BASE64_NOPAD;
use millpond_mailbox::{host_key::HostSecret, host_link::HostLink, rand_core::UnwrapErr, token::TokenSecret};
use millpond_overlay::transport::Address;
use zeroize::Zeroizing;

/// The folder of a host.
pub(super) struct Files(PathBuf);

/// The three secrets of a host.
pub(super) struct Keys([Zeroizing<[u8; 32]>; 3]);

impl Files {
    /// The folder, made if it is not there, with keys in it.
    pub(super) fn open(folder: &Path) -> anyhow::Result<Self> {
        private_folder(folder).with_context(|| format!("making the folder {}", folder.display()))?;
        let files = Self(folder.to_owned());
        if !files.keys_file().exists() {
            let keys = Keys::generate()?;
            write_private(&files.keys_file(), keys.to_text().as_bytes())
                .with_context(|| format!("writing {}", files.keys_file().display()))?;
        }
        Ok(files)
    }

    /// The folder of a host that has run before.
    pub(super) fn existing(folder: &Path) -> anyhow::Result<Self> {
        let files = Self(folder.to_owned());
        if !files.keys_file().exists() {
            bail!(
                "there is no host in {}: start it with `millpond relay`, or name its folder with --data-dir",
                folder.display()
            );
        }
        Ok(files)
    }

    pub(super) fn keys(&self) -> anyhow::Result<Keys> {
        let path = self.keys_file();
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let text = Zeroizing::new(text);
        Keys::parse(&text)
            .with_context(|| format!("{} is damaged: expected are three lines of 43 base64 characters", path.display()))
    }

    pub(super) fn database(&self) -> PathBuf {
        self.0.join("relay.redb")
    }

    /// The link of last time.
    pub(super) fn link(&self) -> anyhow::Result<String> {
        let path = self.0.join("link");
        let text = fs::read_to_string(&path)
            .with_context(|| format!("reading {}; the host writes it when it starts", path.display()))?;
        Ok(text.trim_end().to_owned())
    }

    pub(super) fn keep_link(&self, link: &str) -> anyhow::Result<()> {
        let path = self.0.join("link");
        write_private(&path, format!("{link}\n").as_bytes()).with_context(|| format!("writing {}", path.display()))
    }

    /// The addresses of last time, to be taken again where possible.
    pub(super) fn earlier(&self) -> Vec<Address> {
        let link = self.link().ok().and_then(|text| HostLink::parse(&text).ok());
        let way = link.map(|link| link.way);
        way.iter().flat_map(|way| way.addresses()).filter_map(|address| Address::from_bytes(address).ok()).collect()
    }

    fn keys_file(&self) -> PathBuf {
        self.0.join("keys")
    }
}

impl Keys {
    fn generate() -> anyhow::Result<Self> {
        let mut keys = [0; 3].map(|_| Zeroizing::new([0; 32]));
        for key in &mut keys {
            getrandom::fill(key.as_mut_slice()).map_err(|e| anyhow::anyhow!("drawing a key: {e}"))?;
        }
        Ok(Self(keys))
    }

    fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.iter().map(|key| BASE64_NOPAD.encode(key.as_slice()) + "\n").collect())
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().map(|line| {
            let bytes = Zeroizing::new(BASE64_NOPAD.decode(line.as_bytes()).ok()?);
            Some(Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?))
        });
        let keys = [lines.next()??, lines.next()??, lines.next()??];
        lines.next().is_none().then_some(Self(keys))
    }

    /// Names the host.
    pub(super) fn host(&self) -> HostSecret {
        HostSecret::from_bytes(*self.0[0])
    }

    /// Makes and checks tokens.
    pub(super) fn tokens(&self) -> TokenSecret {
        TokenSecret::from_bytes(*self.0[1])
    }

    /// Its PeerId on libp2p.
    pub(super) fn peer(&self) -> Zeroizing<[u8; 32]> {
        self.0[2].clone()
    }
}

/// The system's randomness.
pub(super) fn random() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

fn private_folder(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// Whole on the disk, or not there.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("new");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&partial)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    match path.parent() {
        Some(folder) => fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
