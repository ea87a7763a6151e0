// For browsers that do not know modules; the others never load this file. So it is old JavaScript.
(function () {
  document.getElementById('status').textContent = 'This browser is too old for this page. ' +
    'Use a current Chrome, Edge, Firefox or Safari.';
})();
