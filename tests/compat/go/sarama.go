package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

// newestVersion is the newest protocol that the library speaks.
var newestVersion = sarama.MaxVersion

type saramaClient struct {
	bootstrap []string
	admin     sarama.ClusterAdmin
	client    sarama.Client
}

func newSarama(bootstrap string) (adapter, error) {
	brokers := []string{bootstrap}
	client, err := sarama.NewClient(brokers, saramaConfig())
	if err != nil {
		return nil, err
	}
	admin, err := sarama.NewClusterAdminFromClient(client)
	return &saramaClient{brokers, admin, client}, err
}

func saramaConfig() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = newestVersion
	config.Metadata.Retry.Max = 1
	config.Consumer.Return.Errors = true
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	return config
}

func (s *saramaClient) create(topic string, partitions int32, configs map[string]string) error {
	values := map[string]*string{}
	for name, value := range configs {
		values[name] = &value
	}
	detail := &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1, ConfigEntries: values}
	return s.admin.CreateTopic(topic, detail, false)
}

func (s *saramaClient) topics() (map[string]bool, error) {
	found, err := s.admin.ListTopics()
	return setOf(slices.Collect(maps.Keys(found))), err
}

func (s *saramaClient) partitions(topic string) (int, error) {
	found, err := s.admin.DescribeTopics([]string{topic})
	if err != nil {
		return 0, err
	}
	if found[0].Err != sarama.ErrNoError {
		return 0, found[0].Err
	}
	return len(found[0].Partitions), nil
}

func (s *saramaClient) deleteTopic(topic string) error { return s.admin.DeleteTopic(topic) }

func (s *saramaClient) alterConfig(topic, name, value string) error {
	entry := sarama.IncrementalAlterConfigsEntry{Operation: sarama.IncrementalAlterConfigsOperationSet, Value: &value}
	entries := map[string]sarama.IncrementalAlterConfigsEntry{name: entry}
	return s.admin.IncrementalAlterConfig(sarama.TopicResource, topic, entries, false)
}

func (s *saramaClient) config(topic, name string) (string, error) {
	found, err := s.admin.DescribeConfig(sarama.ConfigResource{
		Type: sarama.TopicResource, Name: topic, ConfigNames: []string{name},
	})
	for _, entry := range found {
		if entry.Name == name {
			return entry.Value, err
		}
	}
	return "", err
}

func (s *saramaClient) addPartitions(topic string, total int32) error {
	return s.admin.CreatePartitions(topic, total, nil, false)
}

func (s *saramaClient) deleteRecords(topic string, partition int32, offset int64) error {
	return s.admin.DeleteRecords(topic, map[int32]int64{partition: offset})
}

func (s *saramaClient) brokers() (int, error) {
	found, _, err := s.admin.DescribeCluster()
	return len(found), err
}

func (s *saramaClient) logDirTopics() (map[string]bool, error) {
	_, controller, err := s.admin.DescribeCluster()
	if err != nil {
		return nil, err
	}
	found, err := s.admin.DescribeLogDirs([]int32{controller})
	names := map[string]bool{}
	for _, dir := range found[controller] {
		for _, topic := range dir.Topics {
			names[topic.Topic] = true
		}
	}
	return names, err
}

func (s *saramaClient) produce(records []record, with settings) ([]place, error) {
	config := saramaConfig()
	config.Producer.Return.Successes = true
	config.Producer.Timeout = callTimeout
	config.Producer.Compression = map[string]sarama.CompressionCodec{
		"gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}[with.codec]
	config.Producer.RequiredAcks = sarama.WaitForAll
	if acks, set := map[string]sarama.RequiredAcks{"0": sarama.NoResponse, "1": sarama.WaitForLocal}[with.acks]; set {
		config.Producer.RequiredAcks = acks
	}
	if with.idempotent {
		config.Producer.Idempotent = true
		config.Net.MaxOpenRequests = 1
	}
	if with.smallBatches {
		config.Producer.Flush.MaxMessages = 10
	}
	if with.unlimited {
		config.Producer.MaxMessageBytes = 8_000_000
	}
	if records[0].partition >= 0 {
		config.Producer.Partitioner = sarama.NewManualPartitioner
	}
	producer, err := sarama.NewSyncProducer(s.bootstrap, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	var sent []*sarama.ProducerMessage
	for _, one := range records {
		sent = append(sent, saramaMessage(one))
	}
	if err := producer.SendMessages(sent); err != nil {
		return nil, err
	}
	var places []place
	for _, done := range sent {
		places = append(places, place{done.Partition, done.Offset})
	}
	return places, nil
}

func saramaMessage(one record) *sarama.ProducerMessage {
	out := &sarama.ProducerMessage{Topic: one.topic, Partition: one.partition}
	// An encoder around a nil slice would be an empty key, not a null one.
	if one.key != nil {
		out.Key = sarama.ByteEncoder(one.key)
	}
	if one.value != nil {
		out.Value = sarama.ByteEncoder(one.value)
	}
	if one.timestamp > 0 {
		out.Timestamp = time.UnixMilli(one.timestamp)
	}
	for _, h := range one.headers {
		out.Headers = append(out.Headers, sarama.RecordHeader{Key: []byte(h.key), Value: []byte(h.value)})
	}
	return out
}

func (s *saramaClient) reader(topic string, partitions []int32, offset int64, reset string, wait time.Duration) (reader, error) {
	config := saramaConfig()
	config.Consumer.MaxWaitTime = wait
	return s.readerWith(config, topic, partitions, offset, reset)
}

func (s *saramaClient) readerWith(config *sarama.Config, topic string, partitions []int32, offset int64, reset string) (reader, error) {
	consumer, err := sarama.NewConsumer(s.bootstrap, config)
	if err != nil {
		return nil, err
	}
	out := &saramaReader{
		consumer: consumer,
		messages: make(chan *sarama.ConsumerMessage, 100),
		failures: make(chan error, 10),
	}
	for _, partition := range partitions {
		one, err := consumer.ConsumePartition(topic, partition, offset)
		if err != nil {
			consumer.Close()
			if reset != "none" && errors.Is(err, sarama.ErrOffsetOutOfRange) {
				return nil, notSupported("no reset policy outside groups: " + err.Error())
			}
			return nil, err
		}
		out.parts = append(out.parts, one)
		go func() {
			for message := range one.Messages() {
				out.messages <- message
			}
		}()
		go func() {
			for failure := range one.Errors() {
				out.failures <- failure
			}
		}()
	}
	return out, nil
}

func (s *saramaClient) offsetForTime(topic string, partition int32, timestamp int64) (int64, error) {
	return s.client.GetOffset(topic, partition, timestamp)
}

func (s *saramaClient) bounds(topic string, partition int32) (int64, int64, error) {
	low, err := s.client.GetOffset(topic, partition, sarama.OffsetOldest)
	high, err2 := s.client.GetOffset(topic, partition, sarama.OffsetNewest)
	return low, high, errors.Join(err, err2)
}

func (s *saramaClient) groups() (map[string]bool, error) {
	found, err := s.admin.ListConsumerGroups()
	return setOf(slices.Collect(maps.Keys(found))), err
}

func (s *saramaClient) groupMembers(group string) (int, error) {
	found, err := s.admin.DescribeConsumerGroups([]string{group})
	if err != nil {
		return 0, err
	}
	if found[0].Err != sarama.ErrNoError {
		return 0, found[0].Err
	}
	return len(found[0].Members), nil
}

func (s *saramaClient) committed(group, topic string, partition int32) (int64, error) {
	found, err := s.admin.ListConsumerGroupOffsets(group, map[string][]int32{topic: {partition}})
	if err != nil {
		return 0, err
	}
	block := found.GetBlock(topic, partition)
	if block == nil {
		return 0, errors.New("no offset is committed")
	}
	return block.Offset, nil
}

func (s *saramaClient) resetOffset(group, topic string, partition int32, offset int64) error {
	at := sarama.OffsetAndMetadata{Offset: offset, LeaderEpoch: -1}
	offsets := map[string]map[int32]sarama.OffsetAndMetadata{topic: {partition: at}}
	response, err := s.admin.AlterConsumerGroupOffsets(group, offsets, nil)
	if err != nil {
		return err
	}
	for _, parts := range response.Errors {
		for _, code := range parts {
			if code != sarama.ErrNoError {
				return code
			}
		}
	}
	return nil
}

func (s *saramaClient) deleteGroup(group string) error { return s.admin.DeleteConsumerGroup(group) }

func (s *saramaClient) isError(kind string, err error) bool {
	wanted := map[string]error{
		"unknown-topic":  sarama.ErrUnknownTopicOrPartition,
		"too-large":      sarama.ErrMessageSizeTooLarge,
		"invalid-topic":  sarama.ErrInvalidTopic,
		"topic-exists":   sarama.ErrTopicAlreadyExists,
		"invalid-config": sarama.ErrInvalidConfig,
		"out-of-range":   sarama.ErrOffsetOutOfRange,
	}[kind]
	var many sarama.ProducerErrors
	if errors.As(err, &many) && len(many) > 0 {
		return errors.Is(many[0].Err, wanted)
	}
	return errors.Is(err, wanted)
}

type saramaReader struct {
	consumer sarama.Consumer
	parts    []sarama.PartitionConsumer
	messages chan *sarama.ConsumerMessage
	failures chan error
}

func (r *saramaReader) read(wait time.Duration) ([]record, error) {
	return drain(r.messages, r.failures, wait)
}

func (r *saramaReader) close() {
	for _, one := range r.parts {
		one.AsyncClose()
	}
	r.consumer.Close()
}

// drain takes what is there, waiting for the first message.
func drain(messages chan *sarama.ConsumerMessage, failures chan error, wait time.Duration) ([]record, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	var found []record
	for {
		select {
		case message := <-messages:
			found = append(found, saramaRecord(message))
			timer.Reset(10 * time.Millisecond)
		case failure := <-failures:
			return found, failure
		case <-timer.C:
			return found, nil
		}
	}
}

func saramaRecord(message *sarama.ConsumerMessage) record {
	got := record{message.Topic, message.Partition, message.Key, message.Value, nil, message.Timestamp.UnixMilli(), message.Offset}
	for _, h := range message.Headers {
		got.headers = append(got.headers, header{string(h.Key), string(h.Value)})
	}
	return got
}

// saramaMember runs the library's consumer group in goroutines and keeps what they see.
type saramaMember struct {
	group    sarama.ConsumerGroup
	stop     context.CancelFunc
	stopped  chan struct{}
	messages chan *sarama.ConsumerMessage
	failures chan error
	lock     sync.Mutex
	session  sarama.ConsumerGroupSession
	owned    []int32
}

func (s *saramaClient) member(group, topic string) (member, error) {
	config := saramaConfig()
	config.Consumer.Group.Session.Timeout = 10 * time.Second
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	joined, err := sarama.NewConsumerGroup(s.bootstrap, group, config)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	one := &saramaMember{
		group: joined, stop: stop, stopped: make(chan struct{}),
		messages: make(chan *sarama.ConsumerMessage, 1000), failures: make(chan error, 10),
	}
	go func() {
		for failure := range joined.Errors() {
			one.failures <- failure
		}
	}()
	go func() {
		defer close(one.stopped)
		for ctx.Err() == nil {
			if err := joined.Consume(ctx, []string{topic}, one); err != nil {
				one.failures <- fmt.Errorf("consume: %w", err)
				return
			}
		}
	}()
	return one, nil
}

// Setup is called by the library when partitions were assigned.
func (m *saramaMember) Setup(session sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session, m.owned = session, nil
	for _, parts := range session.Claims() {
		m.owned = append(m.owned, parts...)
	}
	return nil
}

// Cleanup is called by the library before a rebalance.
func (m *saramaMember) Cleanup(sarama.ConsumerGroupSession) error {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session, m.owned = nil, nil
	return nil
}

// ConsumeClaim is called by the library for each partition.
func (m *saramaMember) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for message := range claim.Messages() {
		session.MarkMessage(message, "")
		m.messages <- message
	}
	return nil
}

func (m *saramaMember) read(wait time.Duration) ([]record, error) {
	return drain(m.messages, m.failures, wait)
}

func (m *saramaMember) assignment() []int32 {
	m.lock.Lock()
	defer m.lock.Unlock()
	return slices.Clone(m.owned)
}

func (m *saramaMember) commit() error {
	m.lock.Lock()
	defer m.lock.Unlock()
	if m.session == nil {
		return errors.New("no session to commit in")
	}
	m.session.Commit()
	return nil
}

func (m *saramaMember) close() {
	m.stop()
	<-m.stopped
	m.group.Close()
}
