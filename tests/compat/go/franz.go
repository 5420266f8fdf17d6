package main

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const callTimeout = 15 * time.Second

// franz is franz-go with its administration package kadm.
type franz struct {
	bootstrap string
	admin     *kadm.Client
}

func newFranz(bootstrap string) (adapter, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap))
	if err != nil {
		return nil, err
	}
	return &franz{bootstrap, kadm.NewClient(client)}, nil
}

func limited() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), callTimeout)
}

func (f *franz) create(topic string, partitions int32, configs map[string]string) error {
	ctx, cancel := limited()
	defer cancel()
	values := map[string]*string{}
	for name, value := range configs {
		values[name] = &value
	}
	response, err := f.admin.CreateTopic(ctx, partitions, 1, values, topic)
	return errors.Join(err, response.Err)
}

func (f *franz) topics() (map[string]bool, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := f.admin.ListTopics(ctx)
	return setOf(found.Names()), err
}

func (f *franz) partitions(topic string) (int, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := f.admin.ListTopics(ctx, topic)
	if err != nil {
		return 0, err
	}
	return len(found[topic].Partitions), found[topic].Err
}

func (f *franz) deleteTopic(topic string) error {
	ctx, cancel := limited()
	defer cancel()
	response, err := f.admin.DeleteTopic(ctx, topic)
	return errors.Join(err, response.Err)
}

func (f *franz) alterConfig(topic, name, value string) error {
	ctx, cancel := limited()
	defer cancel()
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: name, Value: &value}}
	responses, err := f.admin.AlterTopicConfigs(ctx, change, topic)
	for _, response := range responses {
		err = errors.Join(err, response.Err)
	}
	return err
}

func (f *franz) config(topic, name string) (string, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := f.admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return "", err
	}
	resource, err := found.On(topic, nil)
	for _, entry := range resource.Configs {
		if entry.Key == name {
			return entry.MaybeValue(), err
		}
	}
	return "", errors.Join(err, resource.Err)
}

func (f *franz) addPartitions(topic string, total int32) error {
	ctx, cancel := limited()
	defer cancel()
	responses, err := f.admin.UpdatePartitions(ctx, int(total), topic)
	return errors.Join(err, responses[topic].Err)
}

func (f *franz) deleteRecords(topic string, partition int32, offset int64) error {
	ctx, cancel := limited()
	defer cancel()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, partition, offset, -1)
	responses, err := f.admin.DeleteRecords(ctx, offsets)
	return errors.Join(err, responses.Error())
}

func (f *franz) brokers() (int, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := f.admin.ListBrokers(ctx)
	return len(found), err
}

func (f *franz) logDirTopics() (map[string]bool, error) {
	ctx, cancel := limited()
	defer cancel()
	names := map[string]bool{}
	found, err := f.admin.DescribeAllLogDirs(ctx, nil)
	found.Each(func(dir kadm.DescribedLogDir) {
		err = errors.Join(err, dir.Err)
		for topic := range dir.Topics {
			names[topic] = true
		}
	})
	return names, err
}

func (f *franz) produce(records []record, with settings) ([]place, error) {
	options := []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap),
		kgo.ProducerBatchCompression(map[string]kgo.CompressionCodec{
			"gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
			"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
		}[with.codec]),
		kgo.ProducerLinger(20 * time.Millisecond),
		// No delivery timeout: it counts from the record's timestamp, which here lies years back.
		kgo.UnknownTopicRetries(1),
	}
	if records[0].partition >= 0 {
		options = append(options, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if !with.idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	if acks, set := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck()}[with.acks]; set {
		options = append(options, kgo.RequiredAcks(acks))
	}
	if with.smallBatches {
		options = append(options, kgo.ProducerBatchMaxBytes(512))
	}
	if with.unlimited {
		options = append(options, kgo.ProducerBatchMaxBytes(8_000_000))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := limited()
	defer cancel()
	var sent []*kgo.Record
	for _, one := range records {
		out := &kgo.Record{Topic: one.topic, Partition: one.partition, Key: one.key, Value: one.value}
		if one.timestamp > 0 {
			out.Timestamp = time.UnixMilli(one.timestamp)
		}
		for _, h := range one.headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.key, Value: []byte(h.value)})
		}
		sent = append(sent, out)
	}
	if err := client.ProduceSync(ctx, sent...).FirstErr(); err != nil {
		return nil, err
	}
	var places []place
	for _, done := range sent {
		places = append(places, place{done.Partition, done.Offset})
	}
	return places, nil
}

func (f *franz) reader(topic string, partitions []int32, offset int64, reset string, wait time.Duration) (reader, error) {
	at := map[int32]kgo.Offset{}
	for _, partition := range partitions {
		at[partition] = kgo.NewOffset().At(offset)
	}
	policy := map[string]kgo.Offset{
		"earliest": kgo.NewOffset().AtStart(), "latest": kgo.NewOffset().AtEnd(), "none": kgo.NoResetOffset(),
	}[reset]
	client, err := kgo.NewClient(kgo.SeedBrokers(f.bootstrap), kgo.FetchMaxWait(wait),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: at}), kgo.ConsumeResetOffset(policy))
	return &franzReader{client: client}, err
}

func (f *franz) offsetForTime(topic string, partition int32, timestamp int64) (int64, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := f.admin.ListOffsetsAfterMilli(ctx, timestamp, topic)
	at, _ := found.Lookup(topic, partition)
	if at.Timestamp < 0 {
		// kadm answers the end where the broker says that there is none.
		return -1, errors.Join(err, at.Err)
	}
	return at.Offset, errors.Join(err, at.Err)
}

func (f *franz) bounds(topic string, partition int32) (int64, int64, error) {
	ctx, cancel := limited()
	defer cancel()
	starts, err := f.admin.ListStartOffsets(ctx, topic)
	ends, err2 := f.admin.ListEndOffsets(ctx, topic)
	start, _ := starts.Lookup(topic, partition)
	end, _ := ends.Lookup(topic, partition)
	return start.Offset, end.Offset, errors.Join(err, err2, start.Err, end.Err)
}

func (f *franz) member(group, topic string) (member, error) {
	one := &franzReader{owned: map[int32]bool{}}
	client, err := kgo.NewClient(append(f.memberOptions(one, group, topic),
		kgo.SessionTimeout(10*time.Second),
		kgo.HeartbeatInterval(500*time.Millisecond),
	)...)
	one.client = client
	return one, err
}

func (f *franz) memberOptions(one *franzReader, group, topic string) []kgo.Opt {
	return []kgo.Opt{
		kgo.SeedBrokers(f.bootstrap),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { one.own(parts[topic], true) }),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { one.own(parts[topic], false) }),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, parts map[string][]int32) { one.own(parts[topic], false) }),
	}
}

func (f *franz) groups() (map[string]bool, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := f.admin.ListGroups(ctx)
	return setOf(found.Groups()), err
}

func (f *franz) groupMembers(group string) (int, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := f.admin.DescribeGroups(ctx, group)
	return len(found[group].Members), errors.Join(err, found[group].Err)
}

func (f *franz) committed(group, topic string, partition int32) (int64, error) {
	ctx, cancel := limited()
	defer cancel()
	found, err := f.admin.FetchOffsets(ctx, group)
	at, there := found.Lookup(topic, partition)
	if !there {
		err = errors.Join(err, errors.New("no offset is committed"))
	}
	return at.At, errors.Join(err, at.Err)
}

func (f *franz) resetOffset(group, topic string, partition int32, offset int64) error {
	ctx, cancel := limited()
	defer cancel()
	offsets := kadm.Offsets{}
	offsets.AddOffset(topic, partition, offset, -1)
	return f.admin.CommitAllOffsets(ctx, group, offsets)
}

func (f *franz) deleteGroup(group string) error {
	ctx, cancel := limited()
	defer cancel()
	response, err := f.admin.DeleteGroup(ctx, group)
	return errors.Join(err, response.Err)
}

func (f *franz) isError(kind string, err error) bool {
	return errors.Is(err, map[string]error{
		"unknown-topic":  kerr.UnknownTopicOrPartition,
		"too-large":      kerr.MessageTooLarge,
		"invalid-topic":  kerr.InvalidTopicException,
		"topic-exists":   kerr.TopicAlreadyExists,
		"invalid-config": kerr.InvalidConfig,
		"out-of-range":   kerr.OffsetOutOfRange,
	}[kind])
}

type franzReader struct {
	client *kgo.Client
	lock   sync.Mutex
	owned  map[int32]bool
}

func (r *franzReader) own(partitions []int32, owned bool) {
	r.lock.Lock()
	defer r.lock.Unlock()
	for _, partition := range partitions {
		if owned {
			r.owned[partition] = true
		} else {
			delete(r.owned, partition)
		}
	}
}

func (r *franzReader) read(wait time.Duration) ([]record, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	fetches := r.client.PollFetches(ctx)
	var failure error
	fetches.EachError(func(_ string, _ int32, err error) {
		if !errors.Is(err, context.DeadlineExceeded) {
			failure = errors.Join(failure, err)
		}
	})
	var found []record
	fetches.EachRecord(func(one *kgo.Record) {
		got := record{one.Topic, one.Partition, one.Key, one.Value, nil, one.Timestamp.UnixMilli(), one.Offset}
		for _, h := range one.Headers {
			got.headers = append(got.headers, header{h.Key, string(h.Value)})
		}
		found = append(found, got)
	})
	return found, failure
}

func (r *franzReader) assignment() []int32 {
	r.lock.Lock()
	defer r.lock.Unlock()
	return slices.Collect(maps.Keys(r.owned))
}

func (r *franzReader) commit() error {
	ctx, cancel := limited()
	defer cancel()
	return r.client.CommitUncommittedOffsets(ctx)
}

func (r *franzReader) close() { r.client.Close() }

func setOf(names []string) map[string]bool {
	set := map[string]bool{}
	for _, name := range names {
		set[name] = true
	}
	return set
}
