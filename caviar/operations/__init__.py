"""Operations on a study: run it, resume and extend its runs, plan it, tune again, explain it, try one trial of it."""
