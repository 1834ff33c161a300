//! Loopback addresses that belong to one test: a block 127.A.B.0/24, held by a lock on a file for as long as it is in use.
//!
//! Processes of one machine share the loopback interface; two meshes on the same addresses would take each other's
//! connections without an error (SO_REUSEPORT). The lock ends with its process, however that ends.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Context;

/// How many blocks to try before giving up.
const TRIES: usize = 200;

/// A block of 254 loopback addresses, ours until it is dropped.
#[derive(Debug)]
pub struct Block {
    second: u8,
    third: u8,
    _lock: File,
}

impl Block {
    /// Takes a block that nobody has. Blocks below 127.16 are left to those who choose one by number.
    ///
    /// # Errors
    /// When the lock files cannot be written, or every try met a taken block.
    pub fn take() -> anyhow::Result<Self> {
        for _ in 0..TRIES {
            if let Some(block) = Self::try_take(rand::random_range(16..=250), rand::random())? {
                return Ok(block);
            }
        }
        anyhow::bail!(
            "{TRIES} loopback blocks tried, all taken; see {}",
            lock_dir().display()
        )
    }

    /// Takes 127.`second`.`third`.0/24, unless it is taken, or something listens there that takes no locks.
    ///
    /// # Errors
    /// When the lock file cannot be written.
    pub fn try_take(second: u8, third: u8) -> anyhow::Result<Option<Self>> {
        let dir = lock_dir();
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let path = dir.join(format!("127.{second}.{third}"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path);
        let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
        match lock.try_lock() {
            Ok(()) if listened_on(second, third) => Ok(None),
            Ok(()) => Ok(Some(Self {
                second,
                third,
                _lock: lock,
            })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// The address 127.A.B.`last`.
    pub fn ip(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, last)
    }

    /// 127.A.B.`last`:`port`.
    pub fn addr(&self, last: u8, port: u16) -> SocketAddr {
        (self.ip(last), port).into()
    }

    /// The first three numbers and the dot behind them, as they begin each address of the block: `127.A.B.`
    pub fn prefix(&self) -> String {
        format!("127.{}.{}.", self.second, self.third)
    }
}

/// A port that was free on `ip` a moment ago. Only safe on an address that no other test uses.
///
/// # Errors
/// When nothing can be bound on `ip`.
pub fn free_port(ip: Ipv4Addr) -> anyhow::Result<u16> {
    let listener = TcpListener::bind((ip, 0)).with_context(|| format!("cannot bind on {ip}"))?;
    Ok(listener.local_addr()?.port())
}

/// Whether a TCP socket listens on an address of the block, by the kernel's table of sockets (where there is one).
fn listened_on(second: u8, third: u8) -> bool {
    const LISTENING: &str = "0A";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    // `  sl  local_address rem_address st …`, addresses as hexadecimal numbers in the machine's byte order.
    let listens = |line: &str| {
        let mut words = line.split_whitespace().skip(1);
        let (local, state) = (words.next()?, words.nth(1)?);
        let address = u32::from_str_radix(local.split(':').next()?, 16).ok()?;
        let [first, second_, third_, _] = address.to_ne_bytes();
        Some(state == LISTENING && [first, second_, third_] == [127, second, third])
    };
    table.lines().any(|line| listens(line).unwrap_or(false))
}

fn lock_dir() -> PathBuf {
    std::env::temp_dir().join("argosy-loopback")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_belongs_to_one_at_a_time() {
        let block = Block::take().unwrap();
        let [_, second, third, _] = block.ip(1).octets();
        assert!(Block::try_take(second, third).unwrap().is_none(), "taken twice");
        drop(block);
        assert!(
            Block::try_take(second, third).unwrap().is_some(),
            "not given back"
        );
    }

    #[test]
    fn a_block_that_somebody_listens_on_is_not_given() {
        let block = Block::take().unwrap();
        let [_, second, third, _] = block.ip(1).octets();
        let listener = TcpListener::bind((block.ip(7), 0)).unwrap();
        drop(block);
        assert!(Block::try_take(second, third).unwrap().is_none());
        drop(listener);
        assert!(Block::try_take(second, third).unwrap().is_some());
    }

    #[test]
    fn addresses_of_a_block_can_be_bound() {
        let block = Block::take().unwrap();
        let port = free_port(block.ip(200)).unwrap();
        let listener = TcpListener::bind(block.addr(200, port)).unwrap();
        assert!(
            listener
                .local_addr()
                .unwrap()
                .to_string()
                .starts_with(&block.prefix())
        );
    }
}
