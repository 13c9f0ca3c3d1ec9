"""Requests between a node and the active controller, and their answers.

Every request names its answer's type, so that a caller gets the right one back from `ControllerClient.call`.
Every answer carries `error` (a Kafka error code, 0 for none), `message` for a person, and `offset`: the Raft
index from which on a node's metadata image shows what the answer says, changed or not (-1 when no controller
decided). A node that is not the active controller answers NOT_CONTROLLER, with a hint in `controller_id`.

Answers per item come in the order of the items asked for, whatever their fate.
"""
