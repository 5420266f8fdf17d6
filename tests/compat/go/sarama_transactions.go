package main

import "github.com/IBM/sarama"

func (s *saramaClient) committedReader(topic string) (reader, error) {
	config := saramaConfig()
	config.Consumer.IsolationLevel = sarama.ReadCommitted
	return s.readerWith(config, topic, []int32{0}, 0, "earliest")
}

func (s *saramaClient) transactional(id string) (transactional, error) {
	config := saramaConfig()
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Producer.Transaction.ID = id
	config.Producer.Partitioner = sarama.NewManualPartitioner
	config.Net.MaxOpenRequests = 1
	producer, err := sarama.NewSyncProducer(s.bootstrap, config)
	return &saramaTransactional{producer}, err
}

type saramaTransactional struct{ producer sarama.SyncProducer }

func (t *saramaTransactional) begin() error { return t.producer.BeginTxn() }

func (t *saramaTransactional) send(topic, value string) error {
	_, _, err := t.producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: sarama.StringEncoder(value)})
	return err
}

func (t *saramaTransactional) commit() error { return t.producer.CommitTxn() }
func (t *saramaTransactional) abort() error  { return t.producer.AbortTxn() }
func (t *saramaTransactional) close()        { t.producer.Close() }

// consumeInTransaction writes a record and commits, or does not commit, an offset of the group with it.
func (s *saramaClient) consumeInTransaction(id, group, topic string, commit bool) (int64, error) {
	producer, err := s.transactional(id)
	if err != nil {
		return 0, err
	}
	defer producer.close()
	offset := map[bool]int64{true: 3, false: 5}[commit]
	value := map[bool]string{true: "with offsets", false: "never"}[commit]
	end := func() error {
		offsets := map[string][]*sarama.PartitionOffsetMetadata{topic: {{Partition: 0, Offset: offset}}}
		if err := producer.(*saramaTransactional).producer.AddOffsetsToTxn(offsets, group); err != nil {
			return err
		}
		if commit {
			return producer.commit()
		}
		return producer.abort()
	}
	return offset, whole(producer, topic, end, value)
}

func (s *saramaClient) consumerProtocolMember(string, string) (member, error) {
	return nil, notSupported("only the classic group protocol")
}

func (s *saramaClient) shareMember(string, string) (shareMember, error) {
	return nil, notSupported("no share groups")
}
