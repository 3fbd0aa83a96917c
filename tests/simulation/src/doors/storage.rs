//! The storage as one process reaches it.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use repository::storage::{Body, Memory, Operation, Page, Storage, StorageError, StorageErrorKind};

use super::Way;
use crate::faults::Fault;

/// Puts come with faults; so do all other calls.
pub struct SimStorage {
    memory: Memory,
    way: Way,
    /// Nothing happens to calls until the process has begun.
    is_quiet: AtomicBool,
}

impl SimStorage {
    /// `memory` at the end of `way`; quiet until [`SimStorage::begin`].
    pub fn new(memory: Memory, way: Way) -> Self {
        Self { memory, way, is_quiet: AtomicBool::new(true) }
    }

    /// From now on things go wrong.
    pub fn begin(&self) {
        self.is_quiet.store(false, Ordering::Relaxed);
    }

    fn is_quiet(&self) -> bool {
        self.is_quiet.load(Ordering::Relaxed)
    }

    fn error(&self, operation: Operation, name: &str, kind: StorageErrorKind) -> StorageError {
        StorageError::new(operation, name, self.location(), kind.into())
    }

    /// A call that changes nothing.
    async fn read<T>(
        &self,
        operation: Operation,
        name: &str,
        call: impl Future<Output = Result<T, StorageError>>,
    ) -> Result<T, StorageError> {
        if self.is_quiet() {
            return call.await;
        }
        if self.way.actor.is_blind_to(&format!("{operation:?} {name}")) {
            self.way.out().await;
            return Err(self.error(operation, name, StorageErrorKind::Denied));
        }
        self.way.out().await;
        let fault = self.way.faults.storage(false);
        let answer = call.await;
        self.way.note(format_args!("{operation:?} {name} {:?} {fault:?}", kind_of(&answer)));
        self.way.back().await;
        match fault {
            Fault::None => answer,
            Fault::Refused => Err(self.error(operation, name, StorageErrorKind::Unavailable)),
            _ => Err(self.error(operation, name, StorageErrorKind::Unknown)),
        }
    }

    /// A call that changes something.
    async fn write(
        &self,
        operation: Operation,
        name: &str,
        call: impl Future<Output = Result<(), StorageError>> + Send + 'static,
    ) -> Result<(), StorageError> {
        if self.is_quiet() {
            return call.await;
        }
        self.way.actor.is_about_to(&format!("{operation:?} {name}"));
        let fault = self.way.faults.storage(operation == Operation::Put);
        let unknown = self.error(operation, name, StorageErrorKind::Unknown);
        let answer = match fault {
            Fault::Refused | Fault::LostRequest => {
                self.way.out().await;
                self.way.note(format_args!("{operation:?} {name} {fault:?}"));
                let is_known = fault == Fault::Refused;
                Err(if is_known { self.error(operation, name, StorageErrorKind::Unavailable) } else { unknown })
            }
            Fault::Late(after) => {
                self.way.out().await;
                let (way, subject) = (self.way.clone(), name.to_owned());
                self.way.later(after, async move {
                    let answer = seen(&way, operation, &subject, call).await;
                    way.note(format_args!("{operation:?} {subject} late {:?}", kind_of(&answer)));
                });
                Err(unknown)
            }
            _ => {
                let (way, subject) = (self.way.clone(), name.to_owned());
                let noted = async move {
                    let answer = seen(&way, operation, &subject, call).await;
                    way.note(format_args!("{operation:?} {subject} {:?} {fault:?}", kind_of(&answer)));
                    answer
                };
                let answer = self.way.on_its_way(noted).await;
                match fault {
                    Fault::LostAnswer => Err(unknown),
                    Fault::OwnConflict => Err(self.error(operation, name, StorageErrorKind::AlreadyThere)),
                    _ => answer,
                }
            }
        };
        self.way.back().await;
        answer
    }
}

/// Makes the call before the witness's eyes.
async fn seen(
    way: &Way,
    operation: Operation,
    name: &str,
    call: impl Future<Output = Result<(), StorageError>>,
) -> Result<(), StorageError> {
    let answer = call.await;
    if answer.is_ok() {
        way.witness.sees_write(&way.actor, operation, name);
        if operation == Operation::Put {
            way.witness.sees_snapshot(name).await;
        }
    }
    answer
}

fn kind_of<T>(answer: &Result<T, StorageError>) -> Option<StorageErrorKind> {
    answer.as_ref().err().map(|error| error.kind)
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("SimStorage").field(&self.way.actor.name()).finish()
    }
}

#[async_trait]
impl Storage for SimStorage {
    fn location(&self) -> String {
        self.memory.location()
    }

    async fn put(&self, name: &str, body: Body) -> Result<(), StorageError> {
        let (memory, subject) = (self.memory.clone(), name.to_owned());
        self.write(Operation::Put, name, async move { memory.put(&subject, body).await }).await
    }

    async fn get(&self, name: &str, range: Option<Range<u64>>) -> Result<Bytes, StorageError> {
        self.read(Operation::Get, name, self.memory.get(name, range)).await
    }

    async fn size(&self, name: &str) -> Result<u64, StorageError> {
        self.read(Operation::Size, name, self.memory.size(name)).await
    }

    async fn list(&self, prefix: &str, from: Option<&str>) -> Result<Page, StorageError> {
        self.read(Operation::List, prefix, self.memory.list(prefix, from)).await
    }

    async fn delete(&self, name: &str) -> Result<(), StorageError> {
        let (memory, subject) = (self.memory.clone(), name.to_owned());
        self.write(Operation::Delete, name, async move { memory.delete(&subject).await }).await
    }

    async fn create(&self) -> Result<(), StorageError> {
        self.memory.create().await
    }
}
