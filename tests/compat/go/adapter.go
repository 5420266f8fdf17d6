package main

import "time"

// settings of one call of produce.
type settings struct {
	codec        string
	acks         string // "0", "1" or "all", the default
	idempotent   bool
	smallBatches bool
	unlimited    bool // no size limit of the client's own
}

// place is where a record was written.
type place struct {
	partition int32
	offset    int64
}

// adapter is what a client library is asked for.
type adapter interface {
	create(topic string, partitions int32, configs map[string]string) error
	topics() (map[string]bool, error)
	partitions(topic string) (int, error)
	deleteTopic(topic string) error
	alterConfig(topic, name, value string) error
	config(topic, name string) (string, error)
	addPartitions(topic string, total int32) error
	deleteRecords(topic string, partition int32, offset int64) error
	brokers() (int, error)
	logDirTopics() (map[string]bool, error)
	produce(records []record, with settings) ([]place, error)
	reader(topic string, partitions []int32, offset int64, reset string, wait time.Duration) (reader, error)
	// offsetForTime answers -1 when there is no record that late.
	offsetForTime(topic string, partition int32, timestamp int64) (int64, error)
	bounds(topic string, partition int32) (int64, int64, error)
	member(group, topic string) (member, error)
	// consumerProtocolMember is one whose partitions the broker gives out (KIP-848).
	consumerProtocolMember(group, topic string) (member, error)
	shareMember(group, topic string) (shareMember, error)
	transactional(id string) (transactional, error)
	// committedReader reads partition 0 from its beginning, and of transactions what is committed.
	committedReader(topic string) (reader, error)
	// consumeInTransaction ends a record and offsets of the group together; the offset behind what it consumed.
	consumeInTransaction(id, group, topic string, commit bool) (int64, error)
	groups() (map[string]bool, error)
	groupMembers(group string) (int, error)
	committed(group, topic string, partition int32) (int64, error)
	resetOffset(group, topic string, partition int32, offset int64) error
	deleteGroup(group string) error
	isError(kind string, err error) bool
}

// reader reads assigned partitions.
type reader interface {
	read(wait time.Duration) ([]record, error)
	close()
}

// member reads as one of a group.
type member interface {
	reader
	assignment() []int32
	// commit stores the position behind everything that was read.
	commit() error
}
