/* One string as a command line: split into words as a shell would, without a shell. */
#ifndef WORDS_H
#define WORDS_H

/* Return a NULL-ended array of words (to be freed word by word), or NULL where a quote is left open. Blanks separate;
 * '...', "..." and \ quote. */
char **split_words(const char *text);

#endif
