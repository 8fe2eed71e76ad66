//! A replica on disk: directories walked, files mapped.

use super::{Head, ListPage, ListRequest, StoreError};
use bytes::Bytes;
use std::ops::Range;

/// Reads files below `/`; keys are absolute paths.
#[derive(Debug, Clone, Default)]
pub struct FileStore;

/// A range of a mapped file.
pub struct FileBody;

impl FileStore {
    pub fn list_page(&self, _request: &ListRequest) -> Result<ListPage, StoreError> {
        todo!()
    }
    pub fn get(&self, _key: &str, _range: Range<u64>) -> Result<FileBody, StoreError> {
        todo!()
    }
    pub fn head(&self, _key: &str) -> Result<Head, StoreError> {
        todo!()
    }
}

impl FileBody {
    pub fn chunk(&mut self) -> Option<Bytes> {
        todo!()
    }
}
