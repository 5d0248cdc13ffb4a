"""The audit door: who did what, from where and with which outcome, kept so that changes show.

`event` says what an audit event is; `spool` keeps events durable, encrypted and chained.
"""
