-- The list of terms that wait is sorted into the index by the server, after each piece and with no account held up: the
-- limit, at which whoever adds to it does so, is above what a piece adds.
ALTER INDEX search_documents_by_terms SET (gin_pending_list_limit = 8192);
